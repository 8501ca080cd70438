"""Segments a large canvas square by square: overlapping squares of the network's side, blended without a seam."""

# Shapes: a canvas of H' x W' pixels, squares of S x S, K classes.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_seg.model.pixel_labels import PixelLabels
from ddpm_seg.model.top_classes import TOP, top_classes
from ddpm_seg.model.voting import Votes, probabilities_and_entropy

if TYPE_CHECKING:
    from ddpm_seg.model.trained import ResidentModel

OVERLAP = 0.5
"""Share of a square that its neighbour sees too."""


def segment_tiles(
    segmenter: ResidentModel, canvases: Sequence[NDArray[np.uint8]], *, top: bool = True
) -> list[PixelLabels]:
    """Labels for each canvas (H', W', 3) uint8 RGB, at its size and in order; sides are at least the network's.

    A canvas that is one square gets exactly the answer of `segmenter.segment`. For a larger one, each pixel's
    probabilities are the mean over the squares that hold it, weighted by how far from their edges it lies, and its
    label is the most probable class. Uncertainty and confidence are then float16, and without `top` there are no top
    classes, so that a canvas of 100 megapixels fits into memory. Raises ValueError for a smaller canvas.
    """
    return [_segment(segmenter, canvas, top) for canvas in canvases]


def tile_probabilities(segmenter: ResidentModel, canvas: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The blended mean softmax (K, H', W') float32 behind the labels of `segment_tiles` for a canvas (H', W', 3)."""
    side = segmenter.image_size
    if canvas.shape[:2] == (side, side):
        return segmenter.probabilities(canvas)
    bands = [segmenter.calibrated(_votes(maps)).probabilities for _, maps in _blended_rows(segmenter, canvas, [])]
    return torch.cat(bands, dim=1).cpu().numpy()


def _segment(segmenter: ResidentModel, canvas: NDArray[np.uint8], top: bool) -> PixelLabels:
    side = segmenter.image_size
    height, width = canvas.shape[:2]
    if min(height, width) < side:
        raise ValueError(f"a canvas must have at least {side} x {side} pixels, got shape {canvas.shape}")
    if (height, width) == (side, side):
        return segmenter.segment(np.stack([canvas]))[0]
    found = _Answer(height, width, len(segmenter.task.class_names) if top else 0)
    distances: list[float] = []
    for row, maps in _blended_rows(segmenter, canvas, distances):
        found.fill(row, segmenter.calibrated(_votes(maps)))
    return found.labels(np.float32(np.mean(distances)) if distances else None)


def _blended_rows(
    segmenter: ResidentModel, canvas: NDArray[np.uint8], distances: list[float]
) -> Iterator[tuple[int, Tensor]]:
    """Yields the first row and the blended maps (K + 1, R, W') of bands of rows, from top to bottom.

    A band is done as soon as no further square touches it, so only S rows are held at once.
    """
    side, (height, width) = segmenter.image_size, canvas.shape[:2]
    tops, lefts = starts(height, side), starts(width, side)
    down, across = weights(tops, side), weights(lefts, side)
    band: Tensor | None = None
    for number, (top, down_S) in enumerate(zip(tops, down, strict=True)):
        squares = np.stack([canvas[top : top + side, left : left + side] for left in lefts])
        for votes, left, across_S in zip(segmenter.votes(squares), lefts, across, strict=True):
            maps = probabilities_and_entropy(votes)
            if band is None:
                band = maps.new_zeros(len(maps), side, width)
            weight_SS = torch.from_numpy(down_S[:, None] * across_S).to(maps)
            band[:, :, left : left + side] += maps * weight_SS
            if votes.domain_distance is not None:
                distances.append(float(votes.domain_distance))
        assert band is not None
        done = (tops[number + 1] if number + 1 < len(tops) else height) - top
        yield top, band[:, :done]
        band = torch.cat([band[:, done:], torch.zeros_like(band[:, :done])], dim=1)


def starts(length: int, side: int) -> list[int]:
    """Where squares begin along an axis of `length` pixels: evenly spread, overlapping by at least `OVERLAP`."""
    if length <= side:
        return [0]
    count = 1 + -(-(length - side) // max(1, int(side * (1 - OVERLAP))))
    return [(length - side) * number // (count - 1) for number in range(count)]


def weights(begins: Sequence[int], side: int) -> list[NDArray[np.float32]]:
    """Each square's weights along an axis, (S,) float32: largest in its middle, and 1 in all for every pixel."""
    tent = np.minimum(np.arange(side) + 0.5, side - np.arange(side) - 0.5)
    total = np.zeros(begins[-1] + side)
    for begin in begins:
        total[begin : begin + side] += tent
    return [(tent / total[begin : begin + side]).astype(np.float32) for begin in begins]


def _votes(maps: Tensor) -> Votes:
    p_KRW = maps[:-1]
    confidence, label = p_KRW.max(dim=0)
    return Votes(
        label=label.to(torch.uint8),
        uncertainty=(torch.special.entr(p_KRW).sum(dim=0) - maps[-1]).clamp_min(0),
        confidence=confidence,
        probabilities=p_KRW,
    )


class _Answer:
    """The labels of a whole canvas, filled band by band."""

    def __init__(self, height: int, width: int, classes: int) -> None:
        self.label = np.empty((height, width), np.uint8)
        self.uncertainty = np.empty((height, width), np.float16)
        self.confidence = np.empty((height, width), np.float16)
        self.tops: dict[str, NDArray[np.uint8]] = {}
        if classes:
            shape = (min(TOP, classes), height, width)
            self.tops = {name: np.empty(shape, np.uint8) for name in ("top_ids", "top_probabilities")}

    def fill(self, row: int, votes: Votes) -> None:
        rows = slice(row, row + len(votes.label))
        for name in ("label", "uncertainty", "confidence"):
            getattr(self, name)[rows] = getattr(votes, name).cpu().numpy()
        if self.tops:
            for name, values in top_classes(votes.probabilities).items():
                self.tops[name][:, rows] = values.cpu().numpy()

    def labels(self, distance: np.float32 | None) -> PixelLabels:
        values: dict[str, Any] = {name: getattr(self, name) for name in ("label", "uncertainty", "confidence")}
        values |= self.tops
        return PixelLabels(**values, domain_distance=None if distance is None else np.asarray(distance))
