"""Reads and decodes a chunk of images that are files of their own: many requests at once, because each must wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor

from ddpm_seg import storage
from ddpm_seg.pipeline.label.fit_read import fit_all_read
from ddpm_seg.pipeline.label.rows import FittedImage, ImageInput, LabelSpec, Read, read

READERS = 32
"""Requests at once: one CPU decodes about 300 small images per second, and a distant store takes 0.1 s for each."""
READERS_OF_DISKS = 4
IMAGES_AHEAD, BYTES_AHEAD = 2 * READERS, 64 << 20
"""Limits of what is being read or waits for decoding. A few images are always read, however large."""


def fetch_singles(inputs: Sequence[ImageInput], spec: LabelSpec, decoders: Executor) -> list[FittedImage]:
    """The images in order. Raises what `rows.fetch` raises."""
    on_disk = all(storage.is_local(source.read_uri) for source in inputs)
    with ThreadPoolExecutor(READERS_OF_DISKS if on_disk else READERS) as readers:
        return fit_all_read(_read(inputs, spec, readers), spec, decoders)


def _read(inputs: Sequence[ImageInput], spec: LabelSpec, readers: Executor) -> Iterator[Read]:
    waiting: deque[tuple[int, Future[Read]]] = deque()
    ahead = 0
    try:
        for source in inputs:
            size = source.size_bytes or 0
            while len(waiting) == IMAGES_AHEAD or (len(waiting) >= READERS_OF_DISKS and ahead + size > BYTES_AHEAD):
                done, future = waiting.popleft()
                ahead -= done
                yield future.result()
            waiting.append((size, readers.submit(read, source, spec)))
            ahead += size
        while waiting:
            yield waiting.popleft()[1].result()
    finally:
        for _, future in waiting:
            future.cancel()
