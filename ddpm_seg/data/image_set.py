"""Loads a whole set of unlabelled images into memory, at one size."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ddpm_seg import storage
from ddpm_seg.data.decoding.decoder import decode_and_fit
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS
from ddpm_seg.data.inputs.listing import list_images
from ddpm_seg.data.inputs.sources import read_image
from ddpm_seg.fits import FitMode

logger = logging.getLogger(__name__)


def load_images(uri: str, size: int, fit: FitMode) -> NDArray[np.uint8]:
    """All readable images under `uri` as (N, size, size, 3) uint8; the others are logged and left out.

    Raises ValueError if none can be read. Keeps everything in memory: 12 kB per image at 64 x 64.
    """
    listing = list_images(uri)
    files = sorted(listing.files, key=lambda file: file.uri)
    for entry in listing.refused:  # all of them, now that the files have come
        logger.warning("%s is left out: %s", storage.redact(entry.uri), entry.reason)

    def load(file: storage.FileInfo) -> NDArray[np.uint8] | None:
        try:
            data, _ = read_image(file.uri)
            return decode_and_fit(data, DEFAULT_LIMITS, size, fit)[0]
        except (OSError, ValueError) as error:  # ImageError, or an impossible file name
            logger.warning("%s is left out: %s", storage.redact(file.uri), error)
            return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        bars = tqdm(pool.map(load, files), total=len(files), desc="reading", unit="image", disable=None)
        images = [image for image in bars if image is not None]
    if not images:
        raise ValueError(f"none of the {len(files)} images under {storage.redact(uri)} could be read")
    return np.stack(images)
