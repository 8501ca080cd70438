"""Converts pixels of any kind to 8-bit RGB, the same way for files, PIL images and bands of a TIFF."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms


class RangeError(ValueError):
    """Values whose white point is not known; the text says what they are and what was expected."""


def image_to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """A loaded image of any mode as (H, W, 3) uint8: `convert("RGB")`, except where that clips or fails.

    Drops alpha. Raises RangeError.
    """
    if image.mode.startswith("I;16"):  # either byte order
        tags = getattr(image, "tag_v2", {})
        return bands_to_rgb(np.array(image)[:, :, None], bits=12 if tags.get(258) == (12,) else 16)
    if image.mode == "I":
        # Pillow scales 16-bit PGM and PNG to 65535; other images of this mode do not say what white is.
        known = image.format in ("PPM", "PNG")
        values = np.array(image)[:, :, None]
        return bands_to_rgb(values.clip(0, 65535).astype(np.uint16) if known else values, bits=16 if known else 32)
    if image.mode == "F":
        return bands_to_rgb(np.array(image)[:, :, None], bits=32)
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return np.array(ImageCms.applyTransform(image, ImageCms.buildTransform(lab, srgb, "LAB", "RGB")))
    if image.mode in ("La", "RGBa"):  # premultiplied alpha, which only the matching mode can undo
        image = image.convert(image.mode.upper())
    if "transparency" in image.info:  # alpha is dropped anyway, and converting it may warn or fail
        image = image.copy()
        del image.info["transparency"]
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def bands_to_rgb(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """(H, W, 1) grey, (H, W, 3) RGB or (H, W, 4) CMYK of any number type to (H, W, 3) uint8. Raises RangeError.

    * unsigned up to 16 bits: from 0 to 2^bits - 1;
    * wider or signed integers: from 0 to 65535, if they exceed 255 and none is outside;
    * floats: from 0 to 1, or from 0 to 255. Values up to one such width outside are clipped; NaN becomes black.
    """
    if values.dtype.kind == "f":
        scaled = _floats(values)
    elif values.dtype.kind == "u" and bits <= 16:
        scaled = _unsigned(values, bits)
    else:
        scaled = _wide(values)
    if scaled.shape[2] == 4:
        return np.array(Image.fromarray(scaled, "CMYK").convert("RGB"))
    return scaled if scaled.shape[2] == 3 else np.repeat(scaled, 3, axis=2)


def _unsigned(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    if bits == 8:
        return values.astype(np.uint8, copy=False)
    if bits == 16 and values.shape[2] > 1:
        return (values >> 8).astype(np.uint8)  # as Pillow does for 16-bit colours
    # Integer division, rounding to nearest: 65535 / 255 == 257. In place, as a large scan takes gigabytes.
    white = 2**bits - 1
    wide = values.astype(np.int32)
    wide *= 255
    wide += white // 2
    wide //= white
    return wide.astype(np.uint8)


def _wide(values: NDArray[Any]) -> NDArray[np.uint8]:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535 or 0 < high < 256:
        raise RangeError(
            f"holds whole numbers from {low} to {high}, and its type does not say which of them is white; "
            "save as 8-bit, or as unsigned 16-bit with 65535 for white"
        )
    return _unsigned(values, 16) if values.shape[2] == 1 else (values.astype(np.int32) >> 8).astype(np.uint8)


def _floats(values: NDArray[Any]) -> NDArray[np.uint8]:
    values = values.astype(np.float64 if values.itemsize > 4 else np.float32)
    np.nan_to_num(values, copy=False, nan=0.0, posinf=np.inf, neginf=-np.inf)
    low, high = float(values.min()), float(values.max())
    # A single hot pixel must not turn the range 0 to 1 into 0 to 255, so count how many are over 1.
    bytes_wide = high <= 510 and low >= -255 and 2 * np.count_nonzero(values > 1) > np.count_nonzero(values > 0)
    if high <= 2 and low >= -1:
        values *= 255
    elif not bytes_wide:
        raise RangeError(
            f"holds floats from {low:g} to {high:g}, expected 0 to 1, or 0 to 255; scale them and save again"
        )
    return np.rint(values.clip(0, 255)).astype(np.uint8)
