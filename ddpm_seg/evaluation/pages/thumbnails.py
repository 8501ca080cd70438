"""Small pictures embedded in a page: an image, and its mask blended over it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_seg.data.overlay import Palette, colorize, overlay
from ddpm_seg.evaluation.pages.layers import fitted_size, jpeg, png

LONGEST_SIDE = 192
SHARPER = 4  # overlays are drawn this much larger than shown, so that the edges of regions are smooth


def is_sharp(shape: tuple[int, ...]) -> bool:
    """Whether pictures of this shape (H, W) are so small that a page should show their pixels as sharp squares."""
    return LONGEST_SIDE // max(shape) >= 2


def thumbnails(image: NDArray[np.uint8] | None, mask: NDArray[np.uint8], palette: Palette) -> tuple[str | None, str]:
    """`image` (H, W, 3) uint8, and `mask` (H, W) uint8 over it, as data: URIs with a longest side of at most 192.

    Without an image only the mask is drawn. Small images are enlarged by a whole factor, every pixel a sharp square.
    """
    factor = LONGEST_SIDE // max(mask.shape)
    if factor >= 1:
        drawn = colorize(mask, palette) if image is None else overlay(image, mask, palette)
        return None if image is None else png(_enlarge(image, factor)), png(_enlarge(drawn, factor))
    size, work_size = fitted_size(mask.shape, LONGEST_SIDE), fitted_size(mask.shape, LONGEST_SIDE * SHARPER)
    mask = np.asarray(Image.fromarray(mask).resize(work_size, Image.Resampling.NEAREST))
    if image is None:
        return None, jpeg(Image.fromarray(colorize(mask, palette)).resize(size, Image.Resampling.LANCZOS))
    work = Image.fromarray(image).resize(work_size, Image.Resampling.LANCZOS, reducing_gap=2)
    drawn = overlay(np.asarray(work), mask, palette)
    small = Image.fromarray(drawn).resize(size, Image.Resampling.LANCZOS)
    return jpeg(work.resize(size, Image.Resampling.LANCZOS)), jpeg(small)


def _enlarge(pixels: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
