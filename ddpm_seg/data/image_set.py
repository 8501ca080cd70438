"""Reads a whole set of unlabelled images at one size: into memory, or into a temporary file."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.decoding.decoder import decode_and_fit
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS
from ddpm_seg.data.inputs.listing import list_images
from ddpm_seg.data.inputs.sources import read_image
from ddpm_seg.fits import FitMode
from ddpm_seg.progress import track
from ddpm_seg.temporary_space import space_named

logger = logging.getLogger(__name__)

AT_ONCE = 1024
"""How many images are waiting to be decoded, or to be taken."""


def load_images(uri: str, size: int, fit: FitMode, limit: int | None = None) -> NDArray[np.uint8]:
    """The readable images under `uri`, the first `limit` at most, as (N, size, size, 3) uint8; the others are logged
    and left out.

    Raises ValueError if none can be read. Keeps everything in memory: 12 kB per image at 64 x 64.
    """
    return np.stack([image for (image,) in islice(read_images(uri, (size,), fit), limit)])


def read_images(uri: str, sizes: tuple[int, ...], fit: FitMode) -> Iterator[tuple[NDArray[np.uint8], ...]]:
    """Yields every readable image under `uri`, sorted by URI, as (size, size, 3) uint8 in each of `sizes`; the others
    are logged and left out. Holds few of them in memory. Raises ValueError if none can be read."""
    listing = list_images(uri)
    files = sorted(listing.files, key=lambda file: file.uri)
    for entry in listing.refused:  # all of them, now that the files have come
        logger.warning("%s is left out: %s", storage.redact(entry.uri), entry.reason)

    def read(file: storage.FileInfo) -> tuple[NDArray[np.uint8], ...] | None:
        try:
            data, _ = read_image(file.uri)
            return tuple(decode_and_fit(data, DEFAULT_LIMITS, size, fit)[0] for size in sizes)
        except (OSError, ValueError) as error:  # ImageError, or an impossible file name
            logger.warning("%s is left out: %s", storage.redact(file.uri), error)
            return None

    found = False
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        parts = (files[first : first + AT_ONCE] for first in range(0, len(files), AT_ONCE))
        images = (image for part in parts for image in pool.map(read, part))
        for image in track(images, "reading", unit="images", total=len(files)):
            if image is not None:
                found = True
                yield image
    if not found:
        raise ValueError(f"none of the {len(files)} images under {storage.redact(uri)} could be read")


class ImageFile:
    """Images of one size in a temporary file, which vanishes with the process: only those that are asked for are in
    memory.

    The file is in the folder for temporary files (TMPDIR), C S² bytes per image: 1.2 GB for 100,000 of 64 x 64 in RGB.
    """

    def __init__(self, size: int, channels: int = 3) -> None:
        self.shape, self._count = (size, size, channels), 0
        self._file: Any = tempfile.TemporaryFile(prefix="ddpm-seg-images-")  # noqa: SIM115  closed with the object

    def append(self, image: NDArray[np.uint8]) -> None:
        """Adds an image (S, S, C) uint8. Raises OSError if the disk is full."""
        if image.shape != self.shape or image.dtype != np.uint8:
            raise ValueError(f"expected {self.shape} uint8, got {image.shape} {image.dtype}")
        with space_named("the images"):
            self._file.write(np.ascontiguousarray(image).data)
        self._count += 1

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The images (B, S, S, C) uint8 with these numbers (B,) int64."""
        with space_named("the images"):
            self._file.flush()
        found = np.empty((len(numbers), *self.shape), np.uint8)
        for image, number in zip(found, numbers.tolist(), strict=True):
            if os.preadv(self._file.fileno(), [image.data], number * image.nbytes) != image.nbytes:
                raise IndexError(f"there is no image {number} of {self._count}")
        return found
