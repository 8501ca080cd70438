"""Evaluates a model: labels annotated images as jobs.label does, then scores the resulting table."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import Annotation, load_annotations
from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.labelled_image import VERSION, is_another
from ddpm_seg.data.schema import MAPS
from ddpm_seg.errors import work_began
from ddpm_seg.evaluation.pages.evaluation_page import evaluation_page
from ddpm_seg.evaluation.scores import learnt_from, own_size
from ddpm_seg.evaluation.scores.calibration import calibration
from ddpm_seg.evaluation.scores.metrics import metrics
from ddpm_seg.evaluation.scores.score_labels import Scored, score_labels
from ddpm_seg.fits import fit_of
from ddpm_seg.json_text import json_file
from ddpm_seg.model.bundle.files import refuse_another_model
from ddpm_seg.model.trained import read_trained_header
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.job import run_label
from ddpm_seg.runs.ledger import newest_options
from ddpm_seg.runs.parquet import encode, open_parquet
from ddpm_seg.runs.view import choose, read_labels
from ddpm_seg.studies.evaluate_config import IMAGES, LISTED, METRICS, PAGE, EvaluateConfig
from ddpm_seg.tasks import Task

if TYPE_CHECKING:
    from ddpm_seg.model.trained import TrainedHeader

logger = logging.getLogger(__name__)

COLUMNS = ["uri", "status", "width", "height", "mask", "uncertainty", "model_id"]
"""Columns of the labels that scoring needs."""
READERS = 16
"""Images at a time whose version is asked for."""


def run_evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Writes the scores of a model on annotated images, and returns the content of `metrics.json`.

    Before any image is labelled, raises ValueError (`BundleError`, `AnnotationError`) or OSError for what the user can
    correct; later, what `run_label` raises.
    """
    header, task = read_trained_header(config.model)
    refuse_another_model(config.model, header.model_id, config.expect_model_id)
    annotations = load_annotations(
        config.images,
        image_size=header.image_size,
        task=task,
        limit=config.limit,
        options=config,
        mode=fit_of(header.provenance, config.fit),
        own_size=True,
    )
    storage.check_writable(config.output)
    return evaluate_annotations(config, header, task, annotations)


def evaluate_annotations(
    config: EvaluateConfig, header: TrainedHeader, task: Task, annotations: Sequence[Annotation]
) -> dict[str, Any]:
    """Like `run_evaluate`, for annotations that have been read already."""
    labels = _labels(config, header, annotations)
    scored = score_labels(labels, annotations, task)
    found = summarise(scored, task)
    found["own_size"] = own_size.of_table(labels, annotations, task)
    about = {"model_id": header.model_id, "task": task.name, "annotations": storage.redact(config.images)}
    found = {"miou": found.pop("miou"), **about, "images": len(scored), **found}
    found[learnt_from.KEY] = learnt_from.seen_before(header.provenance, annotations, scored, task)
    with work_began():
        storage.write_bytes(storage.join(config.output, IMAGES), encode(images_table(scored)))
        storage.write_bytes(storage.join(config.output, PAGE), evaluation_page(found, scored, task).encode())
        storage.write_bytes(storage.join(config.output, METRICS), json_file(found))
    return found


def summarise(scored: Sequence[Scored], task: Task) -> dict[str, Any]:
    """Metrics and calibration over all images."""
    found = metrics(np.sum([one.confusion for one in scored], axis=0), task)
    found["calibration"] = calibration(
        np.array([one.uncertainty for one in scored]),
        np.array([one.wrong for one in scored]),
        np.array([one.pixels for one in scored]),
    )
    return found


def images_table(scored: Sequence[Scored]) -> pa.Table:
    """A table with one row per image: its uncertainty and its own scores."""
    return pa.table(
        {
            "uri": pa.array([one.uri for one in scored], pa.string()),
            "uncertainty": pa.array([one.uncertainty for one in scored], pa.float32()),
            "pixels": pa.array([one.pixels for one in scored], pa.int64()),
            "wrong": pa.array([one.wrong for one in scored], pa.int64()),
            "pixel_accuracy": pa.array(
                [1 - one.wrong / one.pixels if one.pixels else None for one in scored], pa.float64()
            ),
        }
    )


def _labels(config: EvaluateConfig, header: TrainedHeader, annotations: Sequence[Annotation]) -> pa.Table:
    if config.labels is not None:
        labels = _existing_labels(config.labels, config, header)
        _refuse_replaced(labels, annotations)
        return labels
    listed = storage.join(config.output, LISTED)
    storage.write_bytes(listed, encode(pa.table({"uri": [annotation.uri for annotation in annotations]})))
    labelled = run_label(
        LabelConfig(
            input=listed,
            output=config.output,
            model=config.model,
            expect_model_id=header.model_id,  # metrics.json names this model
            dtype=config.dtype,
            fit=config.fit,
            refine=config.refine,
            average=config.average,
            tile=config.tile,
            num_actors=config.num_actors,
            maps=_with_maps(config.output),
        )
    )
    return _read(config.output, labelled.config_hash)


def _with_maps(output: str) -> bool:
    """Whether to write the maps of pixels. An evaluation that an earlier release began continues without them."""
    options = newest_options(output, having="fit")
    return not options or bool(options.get("maps"))


def _read(output: str, config_hash: str) -> pa.Table:
    """Reads the columns that scoring needs, with the maps of pixels and the images' versions if the labels have
    them."""
    with open_parquet(choose(output, "labels", config_hash).shards[0]) as file:
        more = [name for name in (*MAPS, *VERSION) if name in file.schema_arrow.names]
    return read_labels(output, config_hash=config_hash, columns=[*COLUMNS, *more])


def _existing_labels(output: str, config: EvaluateConfig, header: TrainedHeader) -> pa.Table:
    """The current labels at `output`. Raises ValueError if another model made them."""
    configuration = choose(output, "labels", config.config_hash)
    logger.info("labels of configuration %s", configuration)
    labels = _read(output, configuration.config_hash)
    model_ids: list[Any] = labels["model_id"].to_pylist()
    if others := set(model_ids) - {header.model_id}:
        raise ValueError(
            f"the labels at {storage.redact(output)} were made by model {min(others)}, not by {config.model} "
            f"({header.model_id}); give the --model that made them, or the --config-hash of labels by {config.model} "
            f"(this used {configuration})"
        )
    return labels


def _refuse_replaced(labels: pa.Table, annotations: Sequence[Annotation]) -> None:
    """Raises ValueError if another image has taken the place of one that was labelled: the mask is not about it."""
    names = ["uri", *(name for name in VERSION if name in labels.column_names)]
    rows = {row["uri"]: row for row in labels.select(names).to_pylist()}

    def replaced(uri: str) -> bool:
        try:
            now = sources.info(uri)
        except (FileNotFoundError, PermissionError):  # it was read a moment ago: the annotations have a copy of it
            return False
        return is_another(uri, rows.get(storage.redact(uri), {}), {name: getattr(now, name) for name in VERSION})

    uris = [annotation.uri for annotation in annotations]
    with ThreadPoolExecutor(READERS) as readers:
        found = [storage.redact(uri) for uri, is_one in zip(uris, readers.map(replaced, uris), strict=True) if is_one]
    if found:
        raise ValueError(
            f"{len(found)} of {len(uris)} annotated images have been replaced since they were labelled: "
            f"{', '.join(found[:3])}{', ...' if len(found) > 3 else ''}; label them again"
        )
