"""Draws masks in their palette's colours, alone or blended over the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_seg.tasks import UNLABELLED

Palette = Sequence[Sequence[int]]


def css_colours(palette: Palette) -> list[str]:
    """Each class's colour as #rrggbb."""
    return ["#{:02x}{:02x}{:02x}".format(*colour) for colour in palette]


def colorize(mask: NDArray[np.uint8], palette: Palette) -> NDArray[np.uint8]:
    """The colours (H, W, 3) uint8 of a mask (H, W) uint8 of class ids; pixels of 255 are black.

    Raises ValueError for a class id that is not in `palette` (R, G, B in 0..255 per class).
    """
    return _lookup_table(mask, palette)[mask]


def indexed(mask: NDArray[np.uint8], palette: Palette) -> Image.Image:
    """`mask` (H, W) uint8 as a picture of mode P: pixels stay class ids and are shown in their colours; 255 is black.

    Raises ValueError for a class id that is not in `palette`.
    """
    # All 256 colours: with a shorter palette Pillow writes fewer bits per pixel, and id 255 is lost.
    colours = _lookup_table(mask, palette)
    picture = Image.fromarray(mask)
    picture.putpalette(colours.reshape(-1).tolist())
    return picture


def overlay(
    image: NDArray[np.uint8], mask: NDArray[np.uint8], palette: Palette, opacity: float = 0.5
) -> NDArray[np.uint8]:
    """Blends `mask` (H, W) uint8 in its colours over `image` (H, W, 3) uint8; returns (H, W, 3) uint8.

    `opacity` 0 shows only the image, 1 only the colours; pixels of 255 always show the image. Raises ValueError if the
    sizes differ, for an opacity outside [0, 1], and for a class id that is not in `palette`.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"image is {image.dtype} {image.shape}, expected uint8 (H, W, 3)")
    if image.shape[:2] != mask.shape:
        raise ValueError(f"image is {image.shape[:2]}, mask {mask.shape} (height, width); they must be the same size")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is {opacity}, expected a number from 0 to 1")
    colours = _lookup_table(mask, palette)[mask]
    blended = np.rint(image * np.float32(1 - opacity) + colours * np.float32(opacity)).astype(np.uint8)
    return np.where((mask == UNLABELLED)[..., None], image, blended)


def _lookup_table(mask: NDArray[np.uint8], palette: Palette) -> NDArray[np.uint8]:
    """(256, 3) uint8 colours, black for ids without a class. Raises ValueError if `mask` has one of these, except
    255."""
    if mask.ndim != 2 or mask.dtype != np.uint8:
        raise ValueError(f"mask is {mask.dtype} {mask.shape}, expected uint8 (H, W)")
    if not 1 <= len(palette) <= UNLABELLED:
        raise ValueError(f"the palette has {len(palette)} colours, expected 1 to {UNLABELLED}")
    largest = int(np.max(mask, where=mask != UNLABELLED, initial=0))
    if largest >= len(palette):
        raise ValueError(f"the mask holds class {largest}, the palette only 0 to {len(palette) - 1}")
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = np.asarray(palette)
    return table
