"""Compares a `labels` table with annotations, image by image."""

# Shapes: S x S pixels of the network, N images, K classes.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.data.canvas import Placement, nearest
from ddpm_seg.data.table_pictures import row_mask
from ddpm_seg.evaluation.scores.miou import confusion_matrix
from ddpm_seg.tasks import Task


@dataclass(frozen=True, kw_only=True, slots=True)
class Scored:
    """One annotated image and its predicted mask, at the network's size without padding (h, w)."""

    uri: str
    image: np.ndarray
    """(h, w, 3) uint8."""
    target: np.ndarray
    """(h, w) uint8."""
    predicted: np.ndarray
    """(h, w) uint8."""
    uncertainty: float
    """As in `labels`: mean Jensen-Shannon divergence over the most uncertain tenth of the pixels, in nats."""
    confusion: np.ndarray
    """int64 (K + 1, K + 1)."""
    pixels: int
    """Number of pixels annotated with a class that is not ignored."""
    wrong: int
    """How many of these pixels were predicted wrongly."""


def score_labels(labels: pa.Table, annotations: Sequence[Annotation], task: Task) -> list[Scored]:
    """Compares rows of `labels` (`uri`, `status`, `width`, `height`, `mask`, `uncertainty`) with the annotations of the
    same images.

    Scores at the network's size, as published. A mask in `labels` has the size of its image: it is the network's label,
    enlarged, and sampling the middle of each cell restores that label. Only where an image is smaller than the
    network's input has its mask fewer pixels than the label. Raises ValueError if an annotated image has no mask.
    """
    rows = {
        row["uri"]: row
        for row in labels.select(["uri", "status", "width", "height", "mask", "uncertainty"]).to_pylist()
    }
    uris = [storage.redact(annotation.uri) for annotation in annotations]
    if missing := [uri for uri in uris if rows.get(uri, {}).get("status") != "ok"]:
        raise ValueError(
            f"{len(missing)} of {len(annotations)} annotated images have no mask in the labels: "
            f"{', '.join(missing[:3])}{', ...' if len(missing) > 3 else ''}"
        )
    return [
        _scored(annotation, row_mask(rows[uri]), rows[uri]["uncertainty"], task)
        for annotation, uri in zip(annotations, uris, strict=True)
    ]


def _scored(annotation: Annotation, mask: np.ndarray, uncertainty: float, task: Task) -> Scored:
    placement = annotation.placement
    target = placement.crop(annotation.label)
    predicted = at_network_size(mask, placement)
    confusion = confusion_matrix(predicted, target, task.num_classes)
    counts = target < task.num_classes
    if task.ignore_label is not None:
        counts &= target != task.ignore_label
    return Scored(
        uri=storage.redact(annotation.uri),
        image=placement.crop(annotation.image),
        target=target,
        predicted=predicted,
        uncertainty=uncertainty,
        confusion=confusion,
        pixels=int(counts.sum()),
        wrong=int((counts & (predicted != target)).sum()),
    )


def at_network_size(mask: np.ndarray, placement: Placement) -> np.ndarray:
    """Undoes `images.restore_mask`: a mask (H, W) back to the network's label (h, w). Exact if H >= h and W >= w."""
    rows, columns = nearest(mask.shape[0], placement.height), nearest(mask.shape[1], placement.width)
    return mask[rows[:, None], columns]
