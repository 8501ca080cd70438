"""Fits an image onto the network's canvas, and maps the mask back.

Shapes: H x W an image's own size, H' x W' the canvas (the network's S x S square, or several of them side by side), h x
w the image's part of the canvas (its content box).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_seg.fits import FitMode

Number = TypeVar("Number", bound=np.generic)

CanvasSize = int | tuple[int, int]
"""The side of a square canvas, or (height, width)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where an image lies on its canvas: its content box, and its own size, which masks are restored to."""

    left: int
    top: int
    width: int
    height: int
    image_width: int
    image_height: int

    def finer(self, times: int) -> Placement:
        """The placement on a canvas that is `times` as fine."""
        box = {name: times * getattr(self, name) for name in ("left", "top", "width", "height")}
        return dataclasses.replace(self, **box)

    @property
    def resized(self) -> bool:
        """Whether the content box has another size than the image."""
        return (self.width, self.height) != (self.image_width, self.image_height)

    def crop(self, canvas: NDArray[Number]) -> NDArray[Number]:
        """The content box of an (H', W', ...) array, as a view (h, w, ...). Raises ValueError if it does not lie
        inside."""
        if canvas.shape[0] < self.top + self.height or canvas.shape[1] < self.left + self.width:
            raise ValueError(f"{self} does not lie on a canvas of shape {canvas.shape}")
        return canvas[self.top : self.top + self.height, self.left : self.left + self.width]


def fit(
    image: NDArray[np.uint8], size: CanvasSize, mode: FitMode = "letterbox", finer: int = 1
) -> tuple[NDArray[np.uint8], Placement]:
    """Fits an image (H, W, 3) uint8 onto a canvas (H', W', 3) uint8; returns the canvas and the placement.
    The canvas is the image itself if that needs neither resizing nor padding.

    With `finer` the canvas has that many times as many rows and columns, but the placement is still in pixels of
    `size`.

    "letterbox" keeps the aspect ratio, centres the image and repeats its edge pixels outwards; "stretch" fills the
    canvas. Resizes with Pillow's BILINEAR (antialiased), so a square image gets exactly the bytes that the published
    code gives it. An image that already fills the canvas is returned itself, not a copy. Raises ValueError for an
    array, size or mode that cannot be used.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise ValueError(f"expected an image (H, W, 3) uint8 of at least one pixel, got {image.shape} {image.dtype}")
    canvas_height, canvas_width = (size, size) if isinstance(size, int) else size
    if min(canvas_height, canvas_width) < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if mode not in ("letterbox", "stretch"):
        raise ValueError(f'mode must be "letterbox" or "stretch", got {mode!r}')
    image_height, image_width = image.shape[:2]
    width, height = canvas_width, canvas_height
    if mode == "letterbox":
        # One side fills the canvas; the other is rounded, halves up.
        if image_width * canvas_height >= image_height * canvas_width:
            height = max(1, (2 * image_height * width + image_width) // (2 * image_width))
        else:
            width = max(1, (2 * image_width * height + image_height) // (2 * image_height))
    left, top = (canvas_width - width) // 2, (canvas_height - height) // 2
    placement = Placement(
        left=left, top=top, width=width, height=height, image_width=image_width, image_height=image_height
    )
    content, wanted = image, (finer * width, finer * height)
    if wanted != (image_width, image_height):  # else it would be an exact copy, of up to 300 MB
        content = np.asarray(Image.fromarray(image).resize(wanted, Image.Resampling.BILINEAR))
    if (width, height) == (canvas_width, canvas_height):
        return content, placement
    padding = ((top, canvas_height - height - top), (left, canvas_width - width - left))
    around = [(finer * before, finer * after) for before, after in padding]
    if not np.any(around):
        return content, placement
    return np.pad(content, (*around, (0, 0)), mode="edge"), placement


def tile_canvas(image: NDArray[np.uint8], side: int, scale: float) -> tuple[int, int]:
    """Height and width of the canvas for an image (H, W, 3) at `scale` that squares of `side` are cut from.

    Neither is below `side`; an image that would be smaller both ways fills one square instead.
    """
    height, width = (max(side, round(length * scale)) for length in image.shape[:2])
    return height, width


def restore_mask(label: NDArray[Number], placement: Placement) -> NDArray[Number]:
    """Restores a label (H', W') uint8 to the image's own size (H, W) uint8: cuts off the padding, then takes the
    nearest.

    A pixel takes the class of the label pixel that its centre falls into, so enlarging keeps every class. A view of
    `label` if the image has the size of its part of the canvas.
    """
    if not placement.resized:
        return placement.crop(label)
    rows = nearest(placement.height, placement.image_height)
    columns = nearest(placement.width, placement.image_width)
    # Columns first, so that the second step copies whole rows.
    return placement.crop(label).take(columns, axis=1).take(rows, axis=0)


def nearest(source: int, target: int) -> NDArray[np.int64]:
    """For each of `target` cells, the index of one of `source` cells: floor((i + 1/2) source / target), exact in
    integers."""
    return (2 * np.arange(target, dtype=np.int64) + 1) * source // (2 * target)
