"""An image and its masks as small embedded pictures that a page lays over each other."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_seg.data.overlay import Palette, indexed
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.tasks import UNLABELLED

LONGEST_SIDE = 320
"""Longest side of a layer, in pixels. Smaller images keep their size, and the page enlarges their pixels to sharp
squares."""

SHARP_BELOW = 128


def image_layer(image: NDArray[np.uint8]) -> str:
    """`image` (H, W, 3) uint8 as a data: URI."""
    height, width = image.shape[:2]
    if max(height, width) <= SHARP_BELOW:
        return png(image)
    size = fitted_size((height, width), LONGEST_SIDE)
    return jpeg(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=2))


def mask_layer(mask: NDArray[np.uint8], palette: Palette) -> str:
    """Class ids `mask` (H, W) uint8 in their colours, as a data: URI; pixels of 255 are transparent.

    Raises ValueError for a class id that is not in `palette`.
    """
    size = fitted_size(mask.shape, LONGEST_SIDE)
    picture = indexed(mask, palette).resize(size, Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", transparency=UNLABELLED, optimize=True)
    return _data_uri("image/png", buffer.getvalue())


def palette_png(indices: NDArray[np.uint8], colours: list[int]) -> str:
    """`indices` (H, W) into `colours` (red, green, blue, red, ...) as a data: URI."""
    picture = Image.fromarray(indices, "P")
    picture.putpalette(colours)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return _data_uri("image/png", buffer.getvalue())


def fitted_size(shape: tuple[int, ...], longest: int) -> tuple[int, int]:
    """Width and height that fit (H, W) into `longest`, never enlarged."""
    scale = min(1.0, longest / max(shape))
    return max(1, round(shape[1] * scale)), max(1, round(shape[0] * scale))


def png(pixels: NDArray[np.uint8]) -> str:
    return _data_uri("image/png", encode_png(pixels))


def jpeg(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85, subsampling=0)
    return _data_uri("image/jpeg", buffer.getvalue())


def _data_uri(media_type: str, data: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"
