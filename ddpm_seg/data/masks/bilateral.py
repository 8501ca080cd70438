"""Joint bilateral upsampling (Kopf et al., 2007): edges of the mask follow the edges of the image."""

# Shapes: T top classes, S x S the network's square, h x w the image's part of it, H x W the image's own size.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_seg.data.canvas import Placement
from ddpm_seg.data.masks.enlarge import OwnSizeMask, class_plane, strips
from ddpm_seg.data.masks.top_classes import TopClasses

REACH = 2
"""Network pixels on each side: 5 x 5 neighbours."""
SPATIAL_SIGMA = 1.5
"""Width of the spatial kernel, in network pixels."""
RANGE_SIGMA = 0.1
"""Width of the colour kernel; colours lie in [0, 1]."""


def bilateral(top: TopClasses, placement: Placement, image: NDArray[np.uint8]) -> OwnSizeMask:
    """The class with the largest probability at each pixel of `image` (H, W, 3) uint8; on a tie the smallest id.

    A pixel's probability of a class is a mean over the nearest network pixels, weighted by their distance and their
    difference in colour (Kopf et al., 2007, equation 3):

        p~(x) = sum_y p(y) f(|x - y|) g(|I(x) - I(y)|) / sum_y f(|x - y|) g(|I(x) - I(y)|)

    with Gaussians f and g, and I(y) the image's mean colour over the network pixel y. Raises ValueError if `image` does
    not have the placement's size.
    """
    check_guide(image, placement)
    height, width = image.shape[:2]
    found = OwnSizeMask(mask=np.zeros((height, width), np.uint8), confidence=np.zeros((height, width), np.uint8))
    ids = placement.crop(top.ids.transpose(1, 2, 0))
    probabilities = placement.crop(top.probabilities.transpose(1, 2, 0))
    small = Image.fromarray(image).resize((placement.width, placement.height), Image.Resampling.BILINEAR)
    guide = np.asarray(small, np.float32) / 255
    rows, columns = _Near(placement.height, height), _Near(placement.width, width)
    for strip in strips(4 * height, 4 * width):  # shorter strips, as each pixel has 25 weights
        if strip.start >= height:
            break
        own = slice(strip.start, min(strip.stop, height))
        weights = _weights(image[own].astype(np.float32) / 255, guide, rows, own, columns)
        best, label = _best_class(ids, probabilities, weights, rows.indices[:, own], columns.indices)
        found.mask[own], found.confidence[own] = label, np.rint(best)
    return found


def check_guide(image: NDArray[np.uint8], placement: Placement) -> None:
    """Raises ValueError unless `image` is (H, W, 3) uint8 of the placement's own size."""
    expected = (placement.image_height, placement.image_width, 3)
    if image.shape != expected or image.dtype != np.uint8:
        raise ValueError(f"expected the mask's image {expected} uint8, got {image.shape} {image.dtype}")


class _Near:
    """Along one axis, the 2 REACH + 1 network pixels nearest to each image pixel, and their spatial weights."""

    def __init__(self, source: int, target: int) -> None:
        centre = (np.arange(target) + 0.5) * source / target - 0.5
        around = np.rint(centre).astype(np.int64) + np.arange(-REACH, REACH + 1)[:, None]
        kernel = np.exp(-((around - centre) ** 2) / (2 * SPATIAL_SIGMA**2))
        self.indices = np.clip(around, 0, source - 1)  # (5, target)
        self.kernel = np.where(around == self.indices, kernel, 0).astype(np.float32)


def _weights(
    own_I: NDArray[np.floating[Any]], guide: NDArray[np.floating[Any]], rows: _Near, own: slice, columns: _Near
) -> NDArray[np.float32]:
    """Normalised weights (25, rows, W) of the neighbours of the pixels `own_I` (rows, W, 3)."""
    found = np.empty((len(rows.indices), len(columns.indices), *own_I.shape[:2]), np.float32)
    channels = np.ascontiguousarray(own_I.transpose(2, 0, 1))
    for j, column in enumerate(columns.indices):
        across = guide[:, column].transpose(2, 0, 1)  # (3, h, W)
        for i, row in enumerate(rows.indices[:, own]):
            distance = found[i, j]
            # A neighbour beyond the image's edge is infinitely far away.
            distance[:] = np.where(rows.kernel[i, own, None] * columns.kernel[j] > 0, 0, np.inf)
            for mine, theirs in zip(channels, across, strict=True):
                difference = theirs.take(row, axis=0)
                difference -= mine
                difference *= difference
                distance += difference
    # Relative to the most similar neighbour, which cancels out below: otherwise all weights of a pixel whose colour no
    # neighbour has would be 0 in float32.
    found -= found.min(axis=(0, 1))
    found *= -1 / (2 * RANGE_SIGMA**2)
    np.exp(found, out=found)
    found *= rows.kernel[:, None, own, None]
    found *= columns.kernel[None, :, None]
    found = found.reshape(-1, *own_I.shape[:2])
    return found / found.sum(axis=0)


def _best_class(
    ids: NDArray[np.uint8],
    probabilities: NDArray[np.uint8],
    weights: NDArray[np.float32],
    rows: NDArray[np.int64],
    columns: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    best, label = np.full(weights.shape[1:], -1, np.float32), np.zeros(weights.shape[1:], np.uint8)
    covered = slice(rows.min(), rows.max() + 1)
    ids, probabilities = ids[covered], probabilities[covered]
    for class_id in np.unique(ids[probabilities > 0]).tolist():
        plane = class_plane(ids, probabilities, class_id)
        value = np.zeros(weights.shape[1:], np.float32)
        for j, column in enumerate(columns):
            across = plane[:, column]
            for i, row in enumerate(rows):
                near = across.take(row - covered.start, axis=0)
                near *= weights[i * len(columns) + j]
                value += near
        better = value > best
        np.copyto(best, value, where=better)
        np.copyto(label, np.uint8(class_id), where=better)
    return best, label
