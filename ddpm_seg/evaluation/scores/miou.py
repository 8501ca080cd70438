"""The published mean IoU, from confusion matrices: those of several images, workers or runs can be added up first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def confusion_matrix(predicted: NDArray[np.uint8], target: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    """Pixel counts int64 (K + 1, K + 1): rows are the target's classes, columns the predicted ones.

    `predicted` and `target` are integer class ids of one shape. Ids outside 0..K-1, such as 255, count in the last row
    or column, so that ignored pixels stay in the unions, as in the published formula. Raises ValueError for different
    shapes.
    """
    if predicted.shape != target.shape:
        raise ValueError(f"prediction has shape {predicted.shape} and target {target.shape}; expected the same")
    rows = _with_other(target, num_classes)
    columns = _with_other(predicted, num_classes)
    counts = np.bincount(rows * (num_classes + 1) + columns, minlength=(num_classes + 1) ** 2)
    return counts.reshape(num_classes + 1, num_classes + 1)


def class_ious(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union per class, float64 (K,) in [0, 1], from a matrix (K + 1, K + 1); 0 for a class that
    appears nowhere."""
    intersections = np.diag(confusion)
    unions = confusion.sum(axis=0) + confusion.sum(axis=1) - intersections
    return (intersections / (1e-8 + unions))[:-1]


def published_miou(confusion: NDArray[np.int64], ignore_label: int | None) -> float:
    """`compute_iou` of the published src/pixel_classifier.py: the mean over all classes but `ignore_label`, in [0, 1].

    Pixels annotated with the ignored class still count: a prediction there enlarges the union of the predicted class.
    """
    ious = class_ious(confusion)
    averaged = np.arange(len(ious)) != (-1 if ignore_label is None else ignore_label)
    return float(ious[averaged].mean())


def _with_other(ids: NDArray[np.uint8], num_classes: int) -> NDArray[np.int64]:
    flat = ids.reshape(-1).astype(np.int64)
    return np.where((flat >= 0) & (flat < num_classes), flat, num_classes)
