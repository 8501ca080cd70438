"""Exports labels to other tools: the selected rows with their images, through the writer of a format."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ddpm_seg import storage
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS, ImageError
from ddpm_seg.data.exports.coco import write_coco
from ddpm_seg.data.exports.cvat import write_cvat
from ddpm_seg.data.exports.fiftyone import write_fiftyone
from ddpm_seg.data.exports.huggingface import write_huggingface
from ddpm_seg.data.exports.label_studio import write_label_studio
from ddpm_seg.data.exports.picture import Picture, safe_name, showable
from ddpm_seg.data.exports.png import write_png
from ddpm_seg.data.table_pictures import row_mask
from ddpm_seg.evaluation.tables.export_config import ExportConfig, Format
from ddpm_seg.evaluation.tables.selection import Selection, select
from ddpm_seg.runs.fresh_output import fresh_output
from ddpm_seg.runs.parquet import read_rows
from ddpm_seg.tasks import Task

logger = logging.getLogger(__name__)

_WRITERS: dict[Format, Callable[[Iterable[Picture], Task, str], None]] = {
    "coco": write_coco,
    "png": write_png,
    "huggingface": write_huggingface,
    "fiftyone": write_fiftyone,
    "label-studio": write_label_studio,
    "cvat": write_cvat,
}

README = "README.md"
"""File of an export that says which model its labels come from."""

READERS = 8  # images read at once: with a distant store most of the time is latency

_COLUMNS = ["image_id", "uri", "width", "height", "mask", "uncertainty", "mean_confidence", "model_id"]


@dataclass(kw_only=True, slots=True)
class Exported:
    """Counts of an export."""

    selection: Selection
    images: int = 0
    model_ids: set[str] = field(default_factory=set)
    gone: Counter[str] = field(default_factory=Counter)
    """Selected images that can no longer be read or have changed, by reason."""


def export(config: ExportConfig) -> Exported:
    """Writes the labels that `config` selects. Images that are gone or have changed are left out, counted and logged.

    Reads masks and images a few at a time. Raises FileNotFoundError if there are no labels, ValueError for a class that
    the task does not have, filters that leave nothing, or an output that is not empty.
    """
    selection = select(
        config.labels,
        config_hash=config.config_hash,
        classes=config.classes,
        min_uncertainty=config.min_uncertainty,
        max_uncertainty=config.max_uncertainty,
        most_uncertain=config.most_uncertain,
    )
    if not selection.images:
        raise ValueError(
            f"nothing to export: of {selection.others + selection.errors} images, {selection.errors} have errors and "
            f"{selection.others} do not match the filters"
        )
    done = Exported(selection=selection)
    with fresh_output(config.output) as output:
        _WRITERS[config.to](_pictures(done, with_images=config.to != "label-studio"), selection.task, output)
        _write_provenance(config, done, output)
    return done


def _write_provenance(config: ExportConfig, done: Exported, output: str) -> None:
    """Appends to README.md (Hugging Face's format already has one) which model the labels come from."""
    uri, configuration = storage.join(output, README), done.selection.configuration
    card = storage.read_bytes(uri).decode() if storage.exists(uri) else f"# Labels of {done.selection.task.name}\n"
    facts = {
        "model_id": ", ".join(sorted(done.model_ids)),
        "config_hash": configuration.config_hash,
        "labels": config.labels,
        "images": done.images,
        "format": config.to,
    }
    lines = [f"- {name}: `{value}`" for name, value in facts.items()]
    storage.write_bytes(uri, "\n".join([card, "Exported with `jobs.export` of ddpm_seg:", "", *lines, ""]).encode())


def _pictures(done: Exported, *, with_images: bool) -> Iterator[Picture]:
    """Yields the selected rows whose images are still readable, in order; counts them in `done`."""
    names = set[str]()
    with ThreadPoolExecutor(READERS) as readers:
        for rows in _batches(done.selection):
            for picture in readers.map(lambda row: _picture(row, with_images), rows):
                if isinstance(picture, Picture):
                    if picture.name in names:  # one would overwrite the other
                        raise ValueError(f"two labels would both be named {picture.name}: their ids are too alike")
                    names.add(picture.name)
                    done.images += 1
                    done.model_ids.add(picture.model_id)
                    yield picture
                else:
                    done.gone[picture] += 1


def _batches(selection: Selection) -> Iterator[list[dict[str, Any]]]:
    """Yields rows with their masks, at most a row group at a time."""
    for uri, wanted in selection.shards:
        for table in read_rows(uri, wanted, _COLUMNS):
            yield [row | {"file": uri} for row in table.to_pylist()]


def _picture(row: dict[str, Any], with_image: bool) -> Picture | str:
    """The row's picture, or the reason why it has none."""
    mask = row_mask(row, file=row["file"])
    image, suffix = b"", ""
    try:
        if with_image:
            data, _ = storage.read_listed(row["uri"], max_bytes=DEFAULT_LIMITS.max_bytes)
            image, suffix = showable(data, *mask.shape)
    except (OSError, ValueError) as error:
        logger.warning("%s is left out: %s", storage.redact(row["uri"]), error)
        return error.error_type if isinstance(error, ImageError) else "not readable"
    return Picture(
        name=safe_name(row["uri"], row["image_id"]),
        uri=row["uri"],
        mask=mask,
        uncertainty=row["uncertainty"],
        mean_confidence=row["mean_confidence"],
        model_id=row["model_id"],
        image=image,
        suffix=suffix,
    )
