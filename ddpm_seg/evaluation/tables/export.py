"""Exports labels to other tools: the selected rows with their images, through the writer of a format."""

from __future__ import annotations

import csv
import io
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ddpm_seg import storage
from ddpm_seg.data.decoding.images import ImageError
from ddpm_seg.data.exports.coco import write_coco
from ddpm_seg.data.exports.cvat import write_cvat
from ddpm_seg.data.exports.fiftyone import write_fiftyone
from ddpm_seg.data.exports.huggingface import write_huggingface
from ddpm_seg.data.exports.label_studio import write_label_studio
from ddpm_seg.data.exports.lance import write_lance
from ddpm_seg.data.exports.lance_merge import merge_into_lance
from ddpm_seg.data.exports.originals import Originals
from ddpm_seg.data.exports.picture import Picture, safe_name, showable
from ddpm_seg.data.exports.png import write_images, write_png
from ddpm_seg.data.exports.webdataset import write_webdataset
from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.labelled_image import VERSION, read_labelled
from ddpm_seg.data.inputs.verdicts import read_chosen
from ddpm_seg.data.sample_names import PICTURES
from ddpm_seg.data.table_pictures import cell_bytes, row_mask
from ddpm_seg.evaluation.scores.risk_control import Threshold
from ddpm_seg.evaluation.tables.export_config import ExportConfig, Format
from ddpm_seg.evaluation.tables.export_threshold import CONFIDENCE, find_threshold
from ddpm_seg.evaluation.tables.selection import Selection, select
from ddpm_seg.progress import track
from ddpm_seg.runs.fresh_output import fresh_output
from ddpm_seg.runs.parquet import read_rows
from ddpm_seg.tasks import UNLABELLED, Task

logger = logging.getLogger(__name__)

_WRITERS: dict[Format, Callable[[Iterable[Picture], Task, str], None]] = {
    "coco": write_coco,
    "png": write_png,
    "huggingface": write_huggingface,
    "fiftyone": write_fiftyone,
    "label-studio": write_label_studio,
    "cvat": write_cvat,
    "webdataset": write_webdataset,
    "lance": write_lance,
}

README = "README.md"
"""File of an export that says which model its labels come from."""

READERS = 8  # images read at once: with a distant store most of the time is latency

_COLUMNS = ["image_id", "uri", "width", "height", "mask", "uncertainty", "mean_confidence", "model_id"]


@dataclass(kw_only=True, slots=True)
class Exported:
    """Counts of an export."""

    selection: Selection
    threshold: Threshold | None = None
    """Pixels below it have no class in the export."""
    images: int = 0
    model_ids: set[str] = field(default_factory=set)
    gone: Counter[str] = field(default_factory=Counter)
    """Selected images that can no longer be read or have changed, by reason."""


def export(config: ExportConfig) -> Exported:
    """Writes the labels that `config` selects. Images that are gone or have changed are left out, counted and logged.

    Reads masks and images a few at a time. Raises FileNotFoundError if there are no labels, ValueError for a class that
    the task does not have, filters that leave nothing, or an output that is not empty.
    """
    table = "samples" if config.samples else "labels"
    selection = select(
        config.samples or config.labels or "",
        table,
        config_hash=config.config_hash,
        only=read_chosen(config.only, "accept") if config.only else None,
        classes=config.classes,
        min_uncertainty=config.min_uncertainty,
        max_uncertainty=config.max_uncertainty,
        most_uncertain=config.most_uncertain,
        max_domain_distance=config.farthest,
    )
    if not selection.images:
        unlike = (
            f", {selection.outside} of them only because they are unlike the training images"
            if selection.outside
            else ""
        )
        raise ValueError(
            f"nothing to export: of {selection.others + selection.errors} images, {selection.errors} have errors and "
            f"{selection.others} do not match the filters{unlike}"
        )
    if selection.task is None and config.to != "png":
        raise ValueError(
            f"the samples have no masks, but --to {config.to} needs them; use --to png to write only the images"
        )
    done = Exported(selection=selection, threshold=find_threshold(config, selection))
    with fresh_output(config.output) as output:
        originals = Originals(config.keep)
        read = _pictures(done, table, _needs_image(config), originals)
        pictures = track(read, "exporting", unit="images", total=selection.images)
        with _listed(pictures, output) as pictures:
            if selection.task is None:
                write_images(pictures, output)
            else:
                place = output if config.merge_into is None else config.merge_into
                write = _WRITERS[config.to] if config.merge_into is None else merge_into_lance
                write(pictures, selection.task, place)
        if missing := [name for name in config.keep if name not in originals.found]:
            raise ValueError(
                f"--keep {missing[0]}: no exported image has it; it can be a column of the Parquet table, or KEY."
                f"{missing[0]} or a field of KEY.json in the tar, that the image lies in"
            )
        if not done.images:
            reasons = ", ".join(f"{number} {reason}" for reason, number in done.gone.items())
            raise ValueError(f"nothing to export: of the {selection.images} selected images, {reasons}")
        _write_provenance(config, done, output)
    return done


def _needs_image(config: ExportConfig) -> Callable[[str], bool]:
    """Which images, by URI, a format wants to have read."""
    if config.to == "webdataset" or config.merge_into is not None:
        return lambda _: False
    return sources.is_in_container if config.to == "label-studio" else lambda _: True


@contextmanager
def _listed(pictures: Iterable[Picture], output: str) -> Iterator[Iterator[Picture]]:
    """Yields `pictures`; afterwards writes `pictures.csv`, which says which image each picture is."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["name", "uri", "uncertainty"])

    def noted() -> Iterator[Picture]:
        for picture in pictures:
            rows.writerow([picture.name, picture.uri, "" if math.isnan(picture.uncertainty) else picture.uncertainty])
            yield picture

    yield noted()
    storage.write_bytes(storage.join(output, PICTURES), text.getvalue().encode())


def _write_provenance(config: ExportConfig, done: Exported, output: str) -> None:
    """Appends to README.md (Hugging Face's format already has one) which model the labels come from."""
    uri, configuration = storage.join(output, README), done.selection.configuration
    card = storage.read_bytes(uri).decode() if storage.exists(uri) else f"# {_title(done)}\n"
    facts = {
        "model_id": ", ".join(sorted(done.model_ids)),
        "config_hash": configuration.config_hash,
        "samples" if config.samples else "labels": storage.redact(config.samples or config.labels or ""),
        "images": done.images,
        "format": config.to,
    }
    if done.threshold is not None:
        facts["target error"] = str(done.threshold)
        facts["kept share of the calibration images' pixels"] = f"{done.threshold.kept:.3f}"
    lines = [f"- {name}: `{value}`" for name, value in facts.items()]
    storage.write_bytes(uri, "\n".join([card, "Exported with `ddpm-seg export` of ddpm_seg:", "", *lines, ""]).encode())


def _title(done: Exported) -> str:
    return f"Labels of {done.selection.task.name}" if done.selection.task else "Images to annotate"


def _pictures(
    done: Exported, table: str, needs_image: Callable[[str], bool], originals: Originals
) -> Iterator[Picture]:
    """Yields the selected rows whose images are still readable, in order; counts them in `done`."""
    names = set[str]()
    least = done.threshold.confidence if done.threshold else 0
    read = partial(_picture, needs_image=needs_image, least_confidence=least, originals=originals)
    with ThreadPoolExecutor(READERS) as readers:
        for rows in _batches(done, table):
            for picture in readers.map(read, rows):
                if isinstance(picture, Picture):
                    if picture.name in names:  # one would overwrite the other
                        raise ValueError(f"two labels would both be named {picture.name}: their ids are too alike")
                    names.add(picture.name)
                    done.images += 1
                    done.model_ids.add(picture.model_id)
                    yield picture
                else:
                    done.gone[picture] += 1


def _batches(done: Exported, table: str) -> Iterator[list[dict[str, Any]]]:
    """Yields rows with their masks, at most a row group at a time."""
    more = ["image"] if table == "samples" else [*VERSION, *([CONFIDENCE] if done.threshold else [])]
    for uri, wanted in done.selection.shards:
        for rows in read_rows(uri, wanted, [*_COLUMNS, *more]):
            known = {"file": uri, "labelled": done.selection.task is not None}
            yield [row | known for row in rows.to_pylist()]


def _picture(
    row: dict[str, Any], needs_image: Callable[[str], bool], least_confidence: int, originals: Originals
) -> Picture | str:
    """The row's picture, or the reason why it has none."""
    mask = row_mask(row, file=row["file"]) if row["labelled"] else np.empty((0, 0), np.uint8)
    if CONFIDENCE in row:
        confidence = row_mask(row, column=CONFIDENCE, file=row["file"])
        mask = np.where(confidence >= least_confidence, mask, np.uint8(UNLABELLED))
    image, suffix = b"", ""
    try:
        if "image" in row:
            image, suffix = showable(cell_bytes(row["image"]), row["height"], row["width"])
        elif needs_image(row["uri"]):
            image, suffix = showable(read_labelled(row["uri"], row), *mask.shape)
        kept = originals.of(row["uri"])
    except (OSError, ValueError) as error:
        logger.warning("%s is left out: %s", storage.redact(row["uri"]), error)
        return error.error_type if isinstance(error, ImageError) else "not readable"
    return Picture(
        name=safe_name(row["uri"], row["image_id"]),
        uri=row["uri"],
        mask=mask,
        uncertainty=_number(row["uncertainty"]),
        mean_confidence=_number(row["mean_confidence"]),
        model_id=row["model_id"],
        image=image,
        suffix=suffix,
        kept=kept,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else value
