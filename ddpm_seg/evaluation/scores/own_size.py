"""Scores of masks at their images' own size: edges, the cost of enlarging, and whether each pixel's confidence is
reliable. Scores at the network's size cannot show these."""

# Shapes: K classes; H x W is an image's own size.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.data.schema import MAPS
from ddpm_seg.data.table_pictures import row_mask
from ddpm_seg.evaluation.scores import reliability
from ddpm_seg.evaluation.scores.boundary_iou import boundary_counts, boundary_ious, paper_distance
from ddpm_seg.evaluation.scores.metrics import usual_ious
from ddpm_seg.evaluation.scores.miou import class_ious, confusion_matrix, published_miou
from ddpm_seg.evaluation.scores.risk_control import Kept, kept_shares
from ddpm_seg.progress import track
from ddpm_seg.tasks import UNLABELLED, Task

NEAR = 2
"""Distance in pixels at which boundary IoU shows edges that are only slightly off."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnSizeCounts:
    """Counts that can be added over images."""

    confusion: NDArray[np.int64]
    """int64 (K + 1, K + 1), rows the target's classes."""
    near: NDArray[np.int64]
    """int64 (2, K): intersections and unions of the boundaries, `NEAR` pixels wide."""
    wide: NDArray[np.int64]
    """int64 (2, K): the same for 2 % of the image's diagonal, the paper's distance."""
    confidence: reliability.Reliability | None
    """None if the confidence of pixels is not known."""


def count(
    mask: NDArray[np.uint8], confidence: NDArray[np.uint8] | None, target: NDArray[np.uint8], task: Task
) -> OwnSizeCounts:
    """Compares `mask` (H, W) with `target` (H, W), both uint8 ids, and each pixel's `confidence` (H, W) uint8 (times
    255), if known. Boundaries and confidence leave out pixels of the task's ignored class."""
    classes, counted = task.num_classes, target
    if task.ignore_label is not None:
        counted = np.where(target == task.ignore_label, np.uint8(UNLABELLED), target)
    return OwnSizeCounts(
        confusion=confusion_matrix(mask, target, classes),
        near=boundary_counts(mask, counted, classes, NEAR),
        wide=boundary_counts(mask, counted, classes, paper_distance(*target.shape)),
        confidence=None if confidence is None else reliability.count(confidence, mask, counted, classes),
    )


def pixels(
    labels: pa.Table, annotations: Sequence[Annotation]
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8] | None, NDArray[np.uint8]]]:
    """Yields mask, confidence (None if the table has none) and annotation of each image at its own size, (H, W) uint8
    each.

    `labels` must have a mask for each annotated image, as `score_labels` checks, and the annotations must have their
    masks at the images' own size.
    """
    names = [name for name in ("uri", "width", "height", "mask", MAPS[0]) if name in labels.column_names]
    rows: dict[str, Any] = {row["uri"]: row for row in labels.select(names).to_pylist()}
    for annotation in track(annotations, "scoring masks", unit="images"):
        row = rows[storage.redact(annotation.uri)]
        yield row_mask(row), row_mask(row, column=MAPS[0]) if MAPS[0] in names else None, annotation.own_label()


def of_table(labels: pa.Table, annotations: Sequence[Annotation], task: Task) -> dict[str, Any]:
    """`summary` of the masks in a `labels` table."""
    return summary((count(*image, task) for image in pixels(labels, annotations)), task)


def kept(labels: pa.Table, annotations: Sequence[Annotation], task: Task) -> list[Kept]:
    """What thresholds on confidence keep of each annotated image. The `labels` need `confidence_map`; images without an
    annotated pixel that counts are left out. Raises ValueError for an image without a mask."""
    states: dict[str, Any] = {row["uri"]: row["status"] for row in labels.select(["uri", "status"]).to_pylist()}
    for annotation in annotations:
        if states.get(uri := storage.redact(annotation.uri)) != "ok":
            raise ValueError(f"the labels have no mask of the calibration image {uri}: label it too, or leave it out")
    found = []
    for mask, confidence, target in pixels(labels, annotations):
        if confidence is None:
            raise ValueError("the labels have no confidence_map; label with --maps")
        if task.ignore_label is not None:
            target = np.where(target == task.ignore_label, np.uint8(UNLABELLED), target)
        if (target < task.num_classes).any():
            found.append(kept_shares(confidence, mask, target, task.num_classes))
    return found


def summary(counts: Iterable[OwnSizeCounts], task: Task) -> dict[str, Any]:
    """JSON-ready: mean IoU by both formulas, boundary IoU at both distances, both also per class, and confidence."""
    confusion, near, wide, confidence = _sums(counts, task.num_classes)
    usual = usual_ious(confusion, task.ignore_label)
    edges, wider = (boundary_ious(one, task.ignore_label) for one in (near, wide))
    found: dict[str, Any] = {
        "miou": published_miou(confusion, task.ignore_label),
        "usual_miou": _mean(usual),
        "boundary_iou_2px": _mean(edges),
        "boundary_iou": _mean(wider),
        "classes": [
            {
                "class_id": class_id,
                "class_name": name,
                "iou": float(class_ious(confusion)[class_id]),
                "boundary_iou_2px": _number(edges[class_id]),
                "boundary_iou": _number(wider[class_id]),
            }
            for class_id, name in enumerate(task.class_names)
        ],
        "confidence": None,
    }
    if confidence is not None:
        found["confidence"] = {
            "calibration_error": reliability.expected_calibration_error(confidence),
            "classes": reliability.class_reliability(confidence, task.class_names),
            "risk_coverage": reliability.risk_coverage(confidence),
        }
    return found


def _sums(
    counts: Iterable[OwnSizeCounts], classes: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], reliability.Reliability | None]:
    confusion: NDArray[np.int64] = np.zeros((classes + 1, classes + 1), np.int64)
    near, wide = np.zeros((2, 2, classes), np.int64)
    confidence: reliability.Reliability | None = None
    for one in counts:
        confusion, near, wide = confusion + one.confusion, near + one.near, wide + one.wide
        if one.confidence is not None:
            confidence = one.confidence if confidence is None else confidence + one.confidence
    return confusion, near, wide, confidence


def _mean(ious: NDArray[np.float64]) -> float | None:
    return None if np.isnan(ious).all() else float(np.nanmean(ious))


def _number(iou: float) -> float | None:
    return None if np.isnan(iou) else float(iou)
