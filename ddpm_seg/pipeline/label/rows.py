"""The rows of the `labels` table: one an input image, whatever became of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.canvas import FitMode, Placement, Resize
from ddpm_seg.data.decoding.decoder import decode_and_fit
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS, ImageError, Limits, one_line
from ddpm_seg.data.image_labels import NotFiniteError, image_labels, own_size_mask
from ddpm_seg.data.inputs import sources
from ddpm_seg.data.schema import labels_schema
from ddpm_seg.data.table_pictures import picture_cell
from ddpm_seg.model.pixel_labels import PixelLabels
from ddpm_seg.pipeline.table_rows import NOT_FINITE, RowSpec, label_columns, outcome_columns
from ddpm_seg.tasks import Task

MAX_MESSAGE = 500

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelSpec(RowSpec):
    """What every task of a run needs to know."""

    image_size: int
    fit: FitMode
    task: Task
    resize: Resize = "nearest"
    maps: bool = False
    allow_local_hosts: bool = False
    limits: Limits = DEFAULT_LIMITS


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInput:
    """One row of the manifest. `read_uri` is where the bytes are: `uri` with the signature that tables never hold."""

    image_id: str
    uri: str
    read_uri: str
    etag: str | None
    size_bytes: int | None
    refused: str | None = None
    """Type and text of the error that planning found already, `read_failed: …`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedImage:
    """An image on its canvas (H', W', 3) uint8, or the reason why it is not."""

    source: ImageInput
    canvas: NDArray[np.uint8] | None = None
    placement: Placement | None = None
    error_type: str | None = None
    error_message: str | None = None


def fetch(source: ImageInput, spec: LabelSpec) -> FittedImage:
    """Reads, decodes and fits one image. What is wrong with the image or its file is in the result, never raised.

    What is raised is not the image's fault: StorageUnavailableError where a store does not answer (not one whose
    host the list names, as in https://: it may name many), RuntimeError or OSError where no process for decoding can be
    started.
    """
    if source.refused is not None:
        error_type, _, reason = source.refused.partition(": ")
        return _failed(source, error_type, ValueError(reason))
    storage.allow_local_hosts(spec.allow_local_hosts)
    try:
        data, version = sources.read_image(source.read_uri, max_bytes=spec.limits.max_bytes)
    except (OSError, ValueError) as error:
        if sources.is_outage(error, source.read_uri):
            raise
        return _failed(source, sources.error_type(error), error)
    # What was read, which may be newer than what was planned: so the next run sees whether it differs.
    source = dataclasses.replace(source, size_bytes=version.size_bytes, etag=version.etag or source.etag)
    try:
        canvas, placement = decode_and_fit(data, spec.limits, spec.image_size, spec.fit)
    except ImageError as error:
        return _failed(source, error.error_type, error)
    return FittedImage(source=source, canvas=canvas, placement=placement)


def label_table(images: Sequence[FittedImage], labels: Sequence[PixelLabels | None], spec: LabelSpec) -> pa.Table:
    """`labels` rows in the order of `images`; `labels[i]` is None for an image that could not be read."""
    rows = [_row(image, label, spec) for image, label in zip(images, labels, strict=True)]
    return pa.Table.from_pylist(rows, schema=labels_schema(spec.task, maps=spec.maps))


def _row(image: FittedImage, label: PixelLabels | None, spec: LabelSpec) -> dict[str, Any]:
    error, found = (image.error_type, image.error_message), {}
    if image.placement is not None and label is not None:
        try:
            labels = image_labels(label, image.placement, spec.task.class_names, spec.resize)
            size = {"width": image.placement.image_width, "height": image.placement.image_height}
            found = {**size, **label_columns(labels)}
            if spec.maps:
                found |= _maps(label, image.placement, spec)
        except NotFiniteError:
            error = NOT_FINITE
    source = {name: getattr(image.source, name) for name in ("image_id", "uri", "etag", "size_bytes")}
    return {**source, **outcome_columns(*error), **spec.columns(), **found}


def _maps(label: PixelLabels, placement: Placement, spec: LabelSpec) -> dict[str, Any]:
    return {
        "confidence_map": picture_cell(own_size_mask(label, placement, spec.resize).confidence),
        "network_mask": picture_cell(placement.crop(label.label)),
    }


def _failed(source: ImageInput, error_type: str, error: Exception) -> FittedImage:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    # The table names the file already, in full; a message may quote the signed form of it.
    text = text.replace(source.read_uri, source.uri).encode("utf-8", "backslashreplace").decode()
    text = storage.without_secrets(_URL.sub(lambda match: storage.redact(match[0]), text), source.read_uri)
    return FittedImage(source=source, error_type=error_type, error_message=one_line(text, MAX_MESSAGE))
