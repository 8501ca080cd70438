"""Segments canvases of any multiple of the network's side: cuts them into squares and stitches the results.

Overlapping squares are in `tiles`.

Imports no torch, so that only processes that hold a model load it.
"""

# Shapes: a canvas has H' x W' pixels, multiples of the network's side S, and n squares, row by row.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg.model.pixel_labels import PixelLabels

if TYPE_CHECKING:
    from ddpm_seg.model.trained import ResidentModel


def segment_canvases(
    segmenter: ResidentModel, canvases: Sequence[NDArray[np.uint8]], *, tiles: bool = False, top: bool = True
) -> list[PixelLabels]:
    """Labels for each canvas (H', W', 3) uint8 RGB, at its size and in order. Canvases may differ in size.

    All squares go through the network together, so that small images share batches. With `tiles`, a canvas may have any
    size and is cut into squares that overlap (`tiles.segment_tiles`, which explains `top`). Raises ValueError without
    them if a canvas's height or width is not a multiple of the network's side.
    """
    if not canvases:
        return []
    if tiles:
        from ddpm_seg.model.tiles import segment_tiles

        return segment_tiles(segmenter, canvases, top=top)
    cut = [_squares(canvas, segmenter.image_size) for canvas in canvases]
    found = iter(segmenter.segment(np.concatenate(cut)))
    columns = [canvas.shape[1] // segmenter.image_size for canvas in canvases]
    return [_stitched([next(found) for _ in squares], one) for squares, one in zip(cut, columns, strict=True)]


def canvas_probabilities(
    segmenter: ResidentModel, canvas: NDArray[np.uint8], *, tiles: bool = False
) -> NDArray[np.float32]:
    """Mean softmax (K, H', W') float32 of one canvas (H', W', 3) uint8 RGB, cut as `segment_canvases` cuts it."""
    if tiles:
        from ddpm_seg.model.tiles import tile_probabilities

        return tile_probabilities(segmenter, canvas)
    maps = [segmenter.probabilities(square) for square in _squares(canvas, segmenter.image_size)]
    columns = canvas.shape[1] // segmenter.image_size
    return np.stack([_joined(list(of_class), columns) for of_class in zip(*maps, strict=True)])


def _squares(canvas: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The canvas's squares (n, S, S, 3); a view if it is a single square."""
    height, width = canvas.shape[:2]
    if canvas.ndim != 3 or height == 0 or width == 0 or height % side or width % side:
        raise ValueError(f"a canvas must have sides that are multiples of {side}, got shape {canvas.shape}")
    rows, columns = height // side, width // side
    squares = canvas.reshape(rows, side, columns, side, -1).swapaxes(1, 2)
    return squares.reshape(rows * columns, side, side, -1)


def _stitched(found: Sequence[PixelLabels], columns: int) -> PixelLabels:
    if len(found) == 1:
        return found[0]
    joined: dict[str, Any] = {}
    for field in fields(PixelLabels):
        parts = [getattr(one, field.name) for one in found]
        if parts[0] is None:
            joined[field.name] = None
        elif parts[0].ndim == 0:  # of a whole square, not of its pixels
            joined[field.name] = np.mean(parts, dtype=np.float32)
        else:
            joined[field.name] = _joined(parts, columns)
    return PixelLabels(**joined)


def _joined(squares: Sequence[NDArray[Any]], columns: int) -> NDArray[Any]:
    """Joins n squares (..., S, S), `columns` of them to a row, into one array (..., H', W')."""
    rows = [np.concatenate(squares[start : start + columns], axis=-1) for start in range(0, len(squares), columns)]
    return np.concatenate(rows, axis=-2)
