"""How an image is put on a canvas for the network, and how its mask comes back.

Shapes: H x W an image's own size, H' x W' the canvas (the network's S x S square, or several of them side by side),
h x w the image's part of the canvas (its content box).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

FitMode = Literal["letterbox", "stretch"]
"""How an image meets a canvas of another shape."""

CanvasSize = int | tuple[int, int]
"""The side of a square canvas, or (height, width)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where an image lies on its canvas: its content box, and its own size, to which masks return."""

    left: int
    top: int
    width: int
    height: int
    image_width: int
    image_height: int

    def crop(self, canvas: np.ndarray) -> np.ndarray:
        """The content box of an (H', W', ...) array, as a view (h, w, ...). ValueError where it does not lie inside."""
        if canvas.shape[0] < self.top + self.height or canvas.shape[1] < self.left + self.width:
            raise ValueError(f"{self} does not lie on a canvas of shape {canvas.shape}")
        return canvas[self.top : self.top + self.height, self.left : self.left + self.width]


def fit(image: np.ndarray, size: CanvasSize, mode: FitMode = "letterbox") -> tuple[np.ndarray, Placement]:
    """(H, W, 3) uint8 to a canvas (H', W', 3) uint8, with the way back.

    Pillow's BILINEAR, which averages when it shrinks: what torchvision's Resize does to Pillow images in the published
    code, and for a square image the same bytes. "letterbox" keeps the aspect, centres the image and repeats its edge
    pixels outwards; "stretch" fills the canvas.
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
        # One side fills the canvas, the other is rounded, halves up.
        if image_width * canvas_height >= image_height * canvas_width:
            height = max(1, (2 * image_height * width + image_width) // (2 * image_width))
        else:
            width = max(1, (2 * image_width * height + image_height) // (2 * image_height))
    left, top = (canvas_width - width) // 2, (canvas_height - height) // 2
    placement = Placement(
        left=left, top=top, width=width, height=height, image_width=image_width, image_height=image_height
    )
    content = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    padding = ((top, canvas_height - height - top), (left, canvas_width - width - left), (0, 0))
    return np.pad(content, padding, mode="edge"), placement


def restore_mask(label: np.ndarray, placement: Placement) -> np.ndarray:
    """Label (H', W') uint8 to the image's own (H, W) uint8: padding cut off, nearest by the pixel-centre rule.

    A pixel takes the class of the label pixel that its centre falls into, so enlarging keeps every class.
    """
    rows = nearest(placement.height, placement.image_height)
    columns = nearest(placement.width, placement.image_width)
    # Columns first: the second step then copies whole rows.
    return placement.crop(label).take(columns, axis=1).take(rows, axis=0)


def nearest(source: int, target: int) -> np.ndarray:
    """The one of `source` cells for each of `target` cells: floor((i + 1/2) source / target), exact in integers."""
    return (2 * np.arange(target, dtype=np.int64) + 1) * source // (2 * target)
