"""Several views of one image, for `--average`: the network sees each, and the answers are averaged where they belong.

Imports no torch, so that planning stays fast.
"""

# Shapes: an image of S x S pixels, the network's side; a canvas of F S x F S pixels, F = `finer(average)`.

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddpm_seg.fits import Average

SHIFTS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Rows and columns of the canvas, of half a network pixel each, that each of the four views begins at."""


def finer(average: Average) -> int:
    """How many times finer than the network's input the canvas must be that the views are taken from."""
    return 2 if average == "shifts" else 1


def passes(average: Average) -> int:
    """How many views of an image go through the network."""
    return {"none": 1, "mirror": 2, "shifts": len(SHIFTS)}[average]


def views_of(canvas: NDArray[np.uint8], average: Average) -> list[NDArray[np.uint8]]:
    """The views (S, S, 3) uint8 of a canvas (F S, F S, 3) uint8."""
    if average == "none":
        return [canvas]
    if average == "mirror":
        return [canvas, canvas[:, ::-1]]
    return [_shifted(canvas, *start) for start in SHIFTS]


def _shifted(canvas: NDArray[np.uint8], row: int, column: int) -> NDArray[np.uint8]:
    """Means of 2 x 2 pixels, beginning at that row and column; the canvas's edge is repeated."""
    height, width, channels = canvas.shape
    moved = np.pad(canvas, ((0, row), (0, column), (0, 0)), mode="edge")[row:, column:]
    blocks = moved.reshape(height // 2, 2, width // 2, 2, channels)
    return np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
