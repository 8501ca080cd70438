"""Boundary IoU (Cheng et al., 2021, "Boundary IoU: improving object-centric image segmentation evaluation").

Computed from counts that can be added up over images first.
"""

# Shapes: images of H x W pixels, K classes.

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ddpm_seg.tasks import UNLABELLED

DIAGONAL_SHARE = 0.02
"""The paper's distance, as a fraction of the image's diagonal."""


def paper_distance(height: int, width: int) -> int:
    """2 % of the image's diagonal in pixels, at least 1."""
    return max(1, round(DIAGONAL_SHARE * math.hypot(height, width)))


def boundary(ids: NDArray[np.uint8], distance: int) -> NDArray[np.bool_]:
    """Whether each pixel of `ids` (H, W) lies within `distance` pixels of the edge of its own class: bool (H, W).

    Distance is the larger of the distances in rows and columns. The image's border counts as an edge, as in the paper's
    code.
    """
    size = 2 * distance + 1
    inside = ndimage.minimum_filter(ids, size) == ndimage.maximum_filter(ids, size)
    border = np.ones(ids.shape, bool)
    border[distance:-distance, distance:-distance] = False
    return ~inside | border


def boundary_counts(
    predicted: NDArray[np.uint8], target: NDArray[np.uint8], num_classes: int, distance: int
) -> NDArray[np.int64]:
    """Pixels in the intersection and union of each class's boundaries, int64 (2, K).

    `predicted` and `target` are (H, W) integer class ids; pixels whose target is outside 0..K-1, such as 255, do not
    count. Raises ValueError for different shapes and for a distance below 1.
    """
    if predicted.shape != target.shape or target.ndim != 2:
        raise ValueError(f"prediction has shape {predicted.shape} and target {target.shape}; expected one (H, W)")
    if distance < 1:
        raise ValueError(f"distance must be at least 1 pixel, got {distance}")
    counted = (target >= 0) & (target < num_classes)
    predicted = np.where(counted & (predicted < num_classes), predicted, UNLABELLED)
    target = np.where(counted, target, UNLABELLED)
    in_target, in_prediction = boundary(target, distance) & counted, boundary(predicted, distance) & counted

    def per_class(ids: NDArray[np.uint8]) -> NDArray[np.int64]:
        return np.bincount(ids.astype(np.int64), minlength=UNLABELLED + 1)[:num_classes]

    intersections = per_class(target[in_target & in_prediction & (target == predicted)])
    unions = per_class(target[in_target]) + per_class(predicted[in_prediction]) - intersections
    return np.stack([intersections, unions])


def boundary_ious(counts: NDArray[np.int64], ignore_label: int | None) -> NDArray[np.float64]:
    """Boundary IoU per class, float64 (K,) in [0, 1], from counts (2, K); NaN for the ignored class and absent
    classes."""
    intersections, unions = counts[0].astype(np.float64), counts[1]
    ious = np.divide(intersections, unions, out=np.full(len(unions), np.nan), where=unions > 0)
    if ignore_label is not None and ignore_label < len(ious):
        ious[ignore_label] = np.nan
    return ious
