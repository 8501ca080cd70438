"""Reads and decodes a chunk of images that lie in one container: together, and of the version that was planned."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import replace

from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.members import fault_of, read_places
from ddpm_seg.pipeline.label.rows import FittedImage, ImageInput, LabelSpec, failed, fit_all
from ddpm_seg.storage import allow_local_hosts

AHEAD = 4
"""Batches that may wait for decoding, so that few images are in memory."""
BATCH_IMAGES, BATCH_BYTES = 64, 2 << 20
"""A batch of small images is decoded together; a large image alone."""

Read = tuple[ImageInput, bytes | Exception | None]


def fetch_members(inputs: list[ImageInput], spec: LabelSpec, decoders: Executor) -> list[FittedImage]:
    """The images in order. If the container was replaced or cannot be opened, a single one that says so.

    Raises what `rows.fetch` raises.
    """
    allow_local_hosts(spec.allow_local_hosts)
    waiting: deque[Future[list[FittedImage]]] = deque()
    images: list[FittedImage] = []
    try:
        for batch in _batches(_read(inputs, spec)):
            waiting.append(decoders.submit(_fitted, batch, spec))
            if len(waiting) > AHEAD:
                images += waiting.popleft().result()
    except OSError as error:
        if sources.is_outage(error, inputs[0].read_uri):
            raise
        for future in waiting:
            future.cancel()
        return [_container_row(inputs[0], error)]
    return [*images, *(image for future in waiting for image in future.result())]


def _batches(found: Iterator[Read]) -> Iterator[list[Read]]:
    batch: list[Read] = []
    size = 0
    for source, data in found:
        batch.append((source, data))
        size += len(data) if isinstance(data, bytes) else 0
        if len(batch) == BATCH_IMAGES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _read(inputs: list[ImageInput], spec: LabelSpec) -> Iterator[Read]:
    """Each image with its bytes, or why it cannot be read; None for one that planning has refused.

    Where the container is damaged, only the image there is at fault: the next ones are tried. Raises OSError if the
    container cannot be opened or was replaced.
    """
    start = 0
    while start < len(inputs):
        left = [source for source in inputs[start:] if source.refused is None]
        places = [source.place for source in left if source.place is not None]
        found = read_places(places, spec.limits.max_bytes) if places else iter(())
        try:
            for source in inputs[start:]:
                data = None if source.refused is not None else next(found)
                start += 1
                yield source, data
            for _ in found:  # lets it check that the container has not changed
                raise AssertionError
        except ValueError as error:
            if start < len(inputs):
                yield inputs[start], error
                start += 1


def _fitted(batch: list[Read], spec: LabelSpec) -> list[FittedImage]:
    whole = [(replace(source, size_bytes=len(data)), data) for source, data in batch if isinstance(data, bytes)]
    fitted = iter(fit_all(whole, spec))
    return [next(fitted) if isinstance(data, bytes) else _unread(source, data) for source, data in batch]


def _unread(source: ImageInput, error: Exception | None) -> FittedImage:
    if error is None:
        error_type, _, reason = str(source.refused).partition(": ")
        return failed(source, error_type, ValueError(reason))
    assert isinstance(error, OSError | ValueError)
    return failed(source, sources.error_type(error), error)


def _container_row(source: ImageInput, error: OSError) -> FittedImage:
    place = source.place
    assert place is not None
    error_type, _, reason = fault_of(error).partition(": ")
    about = replace(
        source,
        image_id=source.container_id,
        uri=source.container,
        read_uri=place.container.uri,
        size_bytes=place.container.size_bytes,
    )
    return failed(about, error_type, ValueError(reason))
