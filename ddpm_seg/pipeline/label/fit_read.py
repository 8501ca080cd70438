"""Decodes and fits images while the next ones are read, with few of them in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future

from ddpm_seg.pipeline.label.rows import FittedImage, LabelSpec, Read, fit_read

AHEAD = 4
"""Batches that may wait for decoding, so that few images are in memory."""
BATCH_IMAGES, BATCH_BYTES = 64, 2 << 20
"""A batch of small images is decoded together; a large image alone."""


def fit_all_read(found: Iterable[Read], spec: LabelSpec, decoders: Executor) -> list[FittedImage]:
    """The images in order. Raises what iterating `found` raises, and what `rows.fetch` raises."""
    waiting: deque[Future[list[FittedImage]]] = deque()
    images: list[FittedImage] = []
    try:
        for batch in _batches(found):
            waiting.append(decoders.submit(fit_read, batch, spec))
            if len(waiting) > AHEAD:
                images += waiting.popleft().result()
        return [*images, *(image for future in waiting for image in future.result())]
    finally:
        for future in waiting:
            future.cancel()


def _batches(found: Iterable[Read]) -> Iterator[list[Read]]:
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
