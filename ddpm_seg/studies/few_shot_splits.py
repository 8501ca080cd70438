"""Few-shot evaluation: trains several ensembles, each on a few of the images, and scores each on the other images."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from typing import Any

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import Annotation, load_annotations
from ddpm_seg.fits import chosen_fit, with_fit
from ddpm_seg.json_text import json_file
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, BundleHeader, load_bundle, network_digest, save_bundle
from ddpm_seg.model.bundle.files import refuse_another_model
from ddpm_seg.model.device.choice import default_device
from ddpm_seg.model.trained import check_dtype, read_trained_header
from ddpm_seg.studies.evaluate import evaluate_annotations
from ddpm_seg.studies.evaluate_config import METRICS, SHOTS, EvaluateConfig
from ddpm_seg.studies.results import mean_and_deviation
from ddpm_seg.studies.splits import Split, digest, draw_splits
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.copies import Copies
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig
from ddpm_seg.training.ensemble.extraction import UNFINISHED, Workplace
from ddpm_seg.training.ensemble.few_shot import train_bundle
from ddpm_seg.training.ensemble.stopping import EarlyStopping

logger = logging.getLogger(__name__)

MODEL = "model"
SCORES = ("miou", "usual_miou", "pixel_accuracy")
OWN_SIZE = {"own_size_miou": "miou", "boundary_iou_2px": "boundary_iou_2px", "boundary_iou": "boundary_iou"}
"""Scores at the images' own size: name here -> name in "own_size" of metrics.json."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """What ensembles are trained and scored with: a bundle as its ensembles shall record it, and annotated images."""

    bundle: Bundle
    task: Task
    annotations: Sequence[Annotation]


def run_splits(config: EvaluateConfig) -> dict[str, Any]:
    """Writes metrics.json with the mean and standard deviation over `config.splits` splits, and each split's scores.

    Every ensemble gets the steps, blocks, copies and training settings of `config.model`. Models and labels from an
    interrupted evaluation at the output are reused. Before any training, raises ValueError (`BundleError`,
    `AnnotationError`) or OSError for what the user can correct; later, what `run_label` raises.
    """
    return score_splits(config, load_pool(config))


def load_pool(config: EvaluateConfig) -> Pool:
    """The model and the annotated images of `config`. Raises what the user can correct, as `run_splits` does."""
    if config.labels is not None:
        raise ValueError("--splits trains new models, so it cannot use --labels: leave out one of them")
    header, task = read_trained_header(config.model)
    refuse_another_model(config.model, header.model_id, config.expect_model_id)
    check_dtype(header, config.dtype)
    fit = chosen_fit(config.model, header.provenance, config.fit)
    bundle = load_bundle(config.model, header.model_id)
    annotations = load_annotations(
        config.images,
        image_size=bundle.network.image_size,
        task=task,
        limit=config.limit,
        options=config,
        mode=fit,
        own_size=True,
    )
    bundle = dataclasses.replace(bundle, provenance=with_fit(bundle.provenance, fit))
    return Pool(bundle=bundle, task=task, annotations=annotations)


def score_splits(config: EvaluateConfig, pool: Pool, *, kept_back: int | None = None) -> dict[str, Any]:
    """`run_splits` with the first of `config.shots` as the number of images; for `kept_back`, see `draw_splits`."""
    assert config.splits is not None
    shots = config.shots[0]
    splits = draw_splits(pool.annotations, count=config.splits, shots=shots, kept_back=kept_back)
    storage.check_writable(config.output)
    folders = [_folder(config, pool.bundle, pool.task, split) for split in splits]
    if not all(storage.exists(_model(folder)) for folder in folders):
        _check_cluster(config)
    rows, ious = [], []
    for split, folder in zip(splits, folders, strict=True):
        found = _split(config, pool.bundle, pool.task, split, folder)
        ious.append([entry["usual_iou"] for entry in found["classes"]])
        logger.info("%s: mean IoU %.4f", split.name, found["miou"])
        rows.append({"split": split.name, "images": found["images"], **_scores(found)})
    means = {name: mean_and_deviation([row[name] for row in rows]) for name in _scores(found)}
    result: dict[str, Any] = {"miou": means["miou"]["mean"], "deviation": means["miou"]["deviation"]}
    result |= {"shots": shots, "means": means, "splits": rows}
    by_class = dict(zip(pool.task.class_names, zip(*ious, strict=True), strict=True))
    result["classes"] = [
        {"class_name": name, **mean_and_deviation(own), "ious": list(own)} for name, own in by_class.items()
    ]
    storage.write_bytes(storage.join(config.output, METRICS), json_file(result))
    return result


def _check_cluster(config: EvaluateConfig) -> None:
    """Raises ValueError, before any training, if the labels could not be made on the cluster afterwards."""
    from ddpm_seg.cluster.nodes import room_for  # Ray takes seconds to import

    room_for(config.num_actors, [config.output])


def how_trained(bundle: Bundle) -> tuple[EnsembleConfig, Copies]:
    """The settings that the bundle's ensemble was trained with; the defaults of `jobs.train` if it does not say."""
    how = bundle.provenance.get("ensemble", {})
    if "training" not in how:
        return EnsembleConfig(), Copies()
    stopping = how["training"]["early_stopping"]
    training = {**how["training"], "early_stopping": EarlyStopping(**stopping) if stopping else None}
    return EnsembleConfig(**training), Copies(**how["copies"])


def _scores(found: dict[str, Any]) -> dict[str, float | None]:
    """The scores in `metrics.json` that get a mean and a deviation."""
    return {name: found[name] for name in SCORES} | {name: found["own_size"][key] for name, key in OWN_SIZE.items()}


def _split(config: EvaluateConfig, bundle: Bundle, task: Task, split: Split, folder: str) -> dict[str, Any]:
    """Trains an ensemble on one split, unless it exists, and scores it, in its `_folder`."""
    model = storage.join(folder, MODEL)
    if not storage.exists(_model(folder)):
        training, copies = how_trained(bundle)
        assert bundle.features is not None
        workplace = Workplace(folder=storage.join(folder, UNFINISHED))
        trained = train_bundle(
            bundle,
            [dataclasses.replace(one, own=None) for one in split.train],
            task=task,
            features=bundle.features,
            training=training,
            copies=copies,
            device=default_device(),
            workplace=workplace,
        )
        save_bundle(trained, model)
        storage.delete(workplace.folder)
    header, _ = read_trained_header(model)
    own = dataclasses.replace(config, model=model, expect_model_id=None, output=folder, splits=None, shots=SHOTS)
    return evaluate_annotations(own, header, task, split.test)


def _model(folder: str) -> str:
    """The file that says that a split's folder has its model."""
    return storage.join(folder, MODEL, "bundle.json")


def _folder(config: EvaluateConfig, bundle: Bundle, task: Task, split: Split) -> str:
    """The folder of a split, named by a hash of its settings.

    Earlier releases left the task and the way of making masks out of the hash. Such a folder is taken if its model has
    both as they are asked for.
    """
    training, copies = how_trained(bundle)
    assert bundle.features is not None
    earlier = repr((network_digest(bundle), bundle.features, training, copies, digest(split.train)))
    content = earlier + json.dumps([bundle.features.to_json(), task.to_dict()], sort_keys=True)
    own, before = (
        storage.join(config.output, split.name, hashlib.sha256(named.encode()).hexdigest()[:12])
        for named in (content, earlier)
    )
    if storage.exists(_model(before)):
        header, found = read_trained_header(storage.join(before, MODEL))
        assert isinstance(header, BundleHeader)
        if header.features == bundle.features and found.to_dict() == task.to_dict():
            return before
    return own
