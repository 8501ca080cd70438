"""Scores from a confusion matrix: published and usual mean IoU, and scores per class."""

# Shapes: a confusion matrix is int64 (K + 1, K + 1); rows are the target's classes, the last for pixels without one.

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg.evaluation.scores.miou import class_ious, published_miou
from ddpm_seg.tasks import Task


def metrics(confusion: NDArray[np.int64], task: Task) -> dict[str, Any]:
    """JSON-ready scores, all fractions, None where undefined: `miou` as published, then the usual ones.

    The published formula averages over every class but the ignored one: a class that appears nowhere scores 0, and
    pixels annotated as ignored enlarge the unions. The usual one leaves out both (`usual_ious`).
    """
    usual, masked = usual_ious(confusion, task.ignore_label), _without_ignored(confusion, task.ignore_label)
    diagonal, scored = np.diag(masked), masked.sum()
    return {
        "miou": published_miou(confusion, task.ignore_label),
        "usual_miou": float(np.nanmean(usual)) if not np.isnan(usual).all() else None,
        "pixel_accuracy": _ratio(diagonal.sum(), scored),
        "pixels": int(scored),
        "classes": [
            {
                "class_id": class_id,
                "class_name": name,
                "iou": float(class_ious(confusion)[class_id]),
                "usual_iou": None if np.isnan(usual[class_id]) else float(usual[class_id]),
                "precision": _ratio(diagonal[class_id], masked[:, class_id].sum()),
                "recall": _ratio(diagonal[class_id], masked[class_id].sum()),
                "pixels": int(confusion[class_id].sum()),
                "ignored": class_id == task.ignore_label,
            }
            for class_id, name in enumerate(task.class_names)
        ],
        "confusion": confusion.tolist(),
    }


def usual_ious(confusion: NDArray[np.int64], ignore_label: int | None) -> NDArray[np.float64]:
    """Intersection over union per class, float64 (K,), over the pixels annotated with a class that is not ignored.

    NaN for the ignored class, and for a class that is neither annotated nor predicted there.
    """
    masked = _without_ignored(confusion, ignore_label)
    intersections = np.diag(masked)[:-1].astype(np.float64)
    unions = (masked.sum(axis=0) + masked.sum(axis=1))[:-1] - intersections
    ious = np.divide(intersections, unions, out=np.full(len(unions), np.nan), where=unions > 0)
    if ignore_label is not None and ignore_label < len(ious):
        ious[ignore_label] = np.nan
    return ious


def _without_ignored(confusion: NDArray[np.int64], ignore_label: int | None) -> NDArray[np.int64]:
    masked = confusion.copy()
    masked[-1] = 0
    if ignore_label is not None and ignore_label < len(masked) - 1:
        masked[ignore_label] = 0
    return masked


def _ratio(part: np.integer[Any], whole: np.integer[Any]) -> float | None:
    return float(part / whole) if whole else None
