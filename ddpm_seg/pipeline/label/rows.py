"""The rows of the `labels` table, one per input image, also for images with errors."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.canvas import Placement
from ddpm_seg.data.decoding.decoder import decode_and_fit_all, read_apart
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS, ImageError, Limits, one_line
from ddpm_seg.data.fit_options import Refine, Resize
from ddpm_seg.data.image_labels import NotFiniteError, image_labels
from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.members import Place, read_places
from ddpm_seg.data.schema import labels_schema
from ddpm_seg.data.table_pictures import picture_cell
from ddpm_seg.fits import FitMode
from ddpm_seg.model.pixel_labels import PixelLabels
from ddpm_seg.pipeline.table_rows import NOT_FINITE, RowSpec, label_columns, outcome_columns
from ddpm_seg.tasks import Task

MAX_MESSAGE = 500
READ_AHEAD = 4
"""Images that are read again at once: hides the latency of a store."""

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelSpec(RowSpec):
    """What the tasks of a run need to know."""

    image_size: int
    fit: FitMode
    task: Task
    resize: Resize = "nearest"
    refine: Refine = "none"
    finer: int = 1
    """How many times finer canvases are than what the network sees, for `--average`."""
    tile: float | None = None
    """Scale of images that are cut into squares; None: each image is one square."""
    least_confidence: int = 0
    """In 255ths; pixels with less confidence become 255, no class."""
    maps: bool = False
    domain: bool = False
    """Whether rows have `domain_distance`."""
    allow_local_hosts: bool = False
    limits: Limits = DEFAULT_LIMITS


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInput:
    """One row of the manifest. `read_uri` is the URI to read: `uri` with its signature, which tables never store."""

    image_id: str
    uri: str
    read_uri: str
    etag: str | None
    size_bytes: int | None
    refused: str | None = None
    """Error type and message (`read_failed: …`) if planning has refused the image."""
    place: Place | None = None
    """Where it is in a container that the run has looked into."""
    container: str = ""
    """The URI of that container, as tables store it."""
    container_id: str = ""
    """The id of a row about the container."""


Read = tuple[ImageInput, bytes | Exception | None]
"""An image with its bytes, or why they could not be read; None if planning has refused it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FittedImage:
    """An image fitted to its canvas, (H', W', 3) uint8, or the error that prevented it."""

    source: ImageInput
    canvas: NDArray[np.uint8] | None = None
    placement: Placement | None = None
    error_type: str | None = None
    error_message: str | None = None


def fetch(source: ImageInput, spec: LabelSpec) -> FittedImage:
    """Reads, decodes and fits one image. Errors of the image or its file are returned in the result.

    Raises only for problems that are not the image's fault: StorageUnavailableError if a store does not answer (except
    for servers that the URI itself names, as https:// does: a list may name many dead ones), and RuntimeError or
    OSError if the decoding process cannot be started.
    """
    (image,) = fit_read([read(source, spec)], spec)
    return image


def read(source: ImageInput, spec: LabelSpec) -> Read:
    """The first half of `fetch`: an image with its bytes. Raises StorageUnavailableError as `fetch` does."""
    if source.refused is not None:
        return source, None
    storage.allow_local_hosts(spec.allow_local_hosts)
    try:
        data, version = sources.read_image(source.read_uri, max_bytes=spec.limits.max_bytes)
    except (OSError, ValueError) as error:
        if sources.is_outage(error, source.read_uri):
            raise
        return source, error
    # Record the version that was read, which may be newer than the planned one, so that the next run can compare it.
    return dataclasses.replace(source, size_bytes=version.size_bytes, etag=version.etag or source.etag), data


def fit(source: ImageInput, data: bytes, spec: LabelSpec) -> FittedImage:
    """Decodes and fits an image's bytes. Raises only if the decoding process cannot be started."""
    (image,) = fit_all([(source, data)], spec)
    return image


def fit_read(batch: Sequence[Read], spec: LabelSpec) -> list[FittedImage]:
    """Decodes and fits images that were read; for the others, says why they were not."""
    whole = [
        (dataclasses.replace(source, size_bytes=len(data)), data) for source, data in batch if isinstance(data, bytes)
    ]
    fitted = iter(fit_all(whole, spec))
    return [next(fitted) if isinstance(data, bytes) else _unread(source, data) for source, data in batch]


def _unread(source: ImageInput, error: Exception | None) -> FittedImage:
    if error is None:
        error_type, _, reason = str(source.refused).partition(": ")
        return failed(source, error_type, ValueError(reason))
    assert isinstance(error, OSError | ValueError)
    return failed(source, sources.error_type(error), error)


def fit_all(images: Sequence[tuple[ImageInput, bytes]], spec: LabelSpec) -> list[FittedImage]:
    """`fit` for each of several small images, faster."""
    if not images:
        return []
    ways = (spec.limits, spec.image_size, spec.fit, spec.finer, spec.tile)
    fitted = zip(images, decode_and_fit_all([data for _, data in images], *ways), strict=True)
    return [
        failed(source, found.error_type, found)
        if isinstance(found, ImageError)
        else FittedImage(source=source, canvas=found[0], placement=found[1])
        for (source, _), found in fitted
    ]


def label_table(images: Sequence[FittedImage], labels: Sequence[PixelLabels | None], spec: LabelSpec) -> pa.Table:
    """The rows of the `labels` table, in the order of `images`; `labels[i]` is None if an image could not be read.

    Raises what `fetch` raises if images must be read again.
    """
    pairs = list(zip(images, labels, strict=True))
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(READ_AHEAD) as readers:
        for start in range(0, len(pairs), READ_AHEAD):  # no more images in memory than these
            group = pairs[start : start + READ_AHEAD]
            guided = list(readers.map(lambda pair: _with_guide(pair[0], pair[1], spec), group))
            rows += [_row(image, label, guide, spec) for (image, guide), (_, label) in zip(guided, group, strict=True)]
    return pa.Table.from_pylist(rows, schema=labels_schema(spec.task, maps=spec.maps, domain=spec.domain))


def _with_guide(
    image: FittedImage, label: PixelLabels | None, spec: LabelSpec
) -> tuple[FittedImage, NDArray[np.uint8] | None]:
    """The image, and its full-size pixels (H, W, 3) uint8 if refining needs them; with an error if reading fails.

    The file is read a second time, because sending it through the cluster would take gigabytes per chunk.
    """
    if spec.refine == "none" or image.placement is None or label is None or not image.placement.resized:
        return image, None
    storage.allow_local_hosts(spec.allow_local_hosts)
    source = image.source
    try:
        data, version = _read_again(source, spec)
    except (OSError, ValueError) as error:
        if sources.is_outage(error, source.read_uri):
            raise
        return failed(source, sources.error_type(error), error), None
    if version.size_bytes != source.size_bytes or (version.etag or source.etag) != source.etag:
        changed = OSError("the file changed while the image was labelled; the next run labels it again")
        return failed(source, "read_failed", changed), None
    try:
        return image, read_apart(data, spec.limits).pixels
    except ImageError as error:
        return failed(source, error.error_type, error), None


def _read_again(source: ImageInput, spec: LabelSpec) -> tuple[bytes, storage.FileInfo]:
    if source.place is None:
        return sources.read_image(source.read_uri, max_bytes=spec.limits.max_bytes)
    (data,) = read_places([source.place], spec.limits.max_bytes)
    if isinstance(data, Exception):
        raise data
    return data, dataclasses.replace(source.place.container, size_bytes=len(data))


def _row(
    image: FittedImage, label: PixelLabels | None, guide: NDArray[np.uint8] | None, spec: LabelSpec
) -> dict[str, Any]:
    error, found = (image.error_type, image.error_message), {}
    placement, ways = image.placement, (spec.resize, spec.refine, guide, spec.least_confidence)
    if placement is not None and label is not None:
        try:
            labels = image_labels(label, placement, spec.task.class_names, *ways)
            size = {"width": placement.image_width, "height": placement.image_height}
            found = {**size, **label_columns(labels)}
            if label.domain_distance is not None:
                found["domain_distance"] = float(label.domain_distance)
            if spec.maps:
                found["confidence_map"] = picture_cell(labels.confidence)
                found["network_mask"] = picture_cell(placement.crop(label.label))
        except NotFiniteError:
            error = NOT_FINITE
    source = {name: getattr(image.source, name) for name in ("image_id", "uri", "etag", "size_bytes")}
    return {**source, **outcome_columns(*error), **spec.columns(), **found}


def failed(source: ImageInput, error_type: str, error: Exception) -> FittedImage:
    """The image as a row with this error."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    # Use the table's form of the URI in the message too: the other one may be signed.
    text = text.replace(source.read_uri, source.uri).encode("utf-8", "backslashreplace").decode()
    text = storage.without_secrets(_URL.sub(lambda match: storage.redact(match[0]), text), source.read_uri)
    return FittedImage(source=source, error_type=error_type, error_message=one_line(text, MAX_MESSAGE))
