"""Smooths class probabilities with the guided filter, using the colour image as guide (He, Sun and Tang, 2013, "Guided
image filtering")."""

# Shapes: T top classes, S x S the network's square, H x W the image's own size, a tile of y x x pixels.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddpm_seg.data.canvas import Placement
from ddpm_seg.data.masks.bilateral import check_guide
from ddpm_seg.data.masks.enlarge import OwnSizeMask, class_plane
from ddpm_seg.data.masks.grid import Axis
from ddpm_seg.data.masks.top_classes import TopClasses

RADIUS = 2.0
"""Radius of the filter's window, in network pixels: 8 image pixels if the image is four times as large."""
EPSILON = 1e-3
"""Regularisation of the linear fit, in squared colour; colours lie in [0, 1]."""
TILE = 256


def guided(top: TopClasses, placement: Placement, image: NDArray[np.uint8], *, tile: int = TILE) -> OwnSizeMask:
    """The class with the largest filtered probability at each pixel of `image` (H, W, 3) uint8; on a tie the smallest
    id.

    Within each window a probability is modelled as linear in colour. A class counts only where it is a top class of a
    network pixel nearby. Works tile by tile; their size affects only memory. Raises ValueError if `image` does not have
    the placement's size.
    """
    check_guide(image, placement)
    height, width = image.shape[:2]
    found = OwnSizeMask(mask=np.zeros((height, width), np.uint8), confidence=np.zeros((height, width), np.uint8))
    ids = placement.crop(top.ids.transpose(1, 2, 0))
    probabilities = placement.crop(top.probabilities.transpose(1, 2, 0))
    rows, columns = Axis.between(placement.height, height), Axis.between(placement.width, width)
    radius = max(1, round(RADIUS * max(height / placement.height, width / placement.width)))
    for top_row in range(0, height, tile):
        for left in range(0, width, tile):
            inner = slice(top_row, min(top_row + tile, height)), slice(left, min(left + tile, width))
            # Twice the radius, since a pixel averages over windows that extend by the radius themselves.
            y, x = (_wider(part, 2 * radius, size) for part, size in zip(inner, (height, width), strict=True))
            cell = rows[y].covered, columns[x].covered
            best, label = _best_class(
                ids[cell], probabilities[cell], rows[y], columns[x], _LinearFit(image[y, x], radius)
            )
            own = tuple(
                slice(part.start - wide.start, part.stop - wide.start) for part, wide in zip(inner, (y, x), strict=True)
            )
            found.mask[inner], found.confidence[inner] = label[own], np.rint(best[own])
    return found


class _LinearFit:
    """Local linear models of a guide I, applied to any plane p (He et al., 2013, section 3.4)."""

    def __init__(self, image: NDArray[np.uint8], radius: int) -> None:
        self.radius = radius
        self.I = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32) / 255
        self.mean_I = self._mean(self.I)
        pairs = [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
        covariance = np.empty((*self.I.shape[1:], 3, 3), np.float32)
        for i, j in pairs:
            value = self._mean(self.I[i] * self.I[j]) - self.mean_I[i] * self.mean_I[j]
            covariance[..., i, j] = covariance[..., j, i] = value
        self.inverse = np.linalg.inv(covariance + EPSILON * np.eye(3, dtype=np.float32))

    def __call__(self, p: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        """q = mean(a) . I + mean(b) (equations 14 to 16), for `p` (y, x) float32."""
        mean_p = self._mean(p)
        covariance = self._mean(self.I * p) - self.mean_I * mean_p
        a = np.einsum("yxij,jyx->iyx", self.inverse, covariance)
        b = mean_p - (a * self.mean_I).sum(axis=0)
        return (self._mean(a) * self.I).sum(axis=0) + self._mean(b)

    def _mean(self, planes: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        size = 2 * self.radius + 1
        once = ndimage.uniform_filter1d(planes, size, axis=-1)
        return ndimage.uniform_filter1d(once, size, axis=-2)


def _wider(part: slice, margin: int, size: int) -> slice:
    return slice(max(0, part.start - margin), min(size, part.stop + margin))


def _best_class(
    ids: NDArray[np.uint8], probabilities: NDArray[np.uint8], rows: Axis, columns: Axis, fit: _LinearFit
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    shape = len(rows.low), len(columns.low)
    best, label = np.full(shape, -1, np.float32), np.zeros(shape, np.uint8)
    for class_id in np.unique(ids[probabilities > 0]).tolist():
        plane = class_plane(ids, probabilities, class_id)
        p = rows.interpolate(columns.interpolate(plane, 1, columns.covered.start), 0, rows.covered.start)
        value = np.where(p > 0, fit(p).clip(0, 255), np.float32(-1))
        better = value > best
        np.copyto(best, value, where=better)
        np.copyto(label, np.uint8(class_id), where=better)
    return best, label
