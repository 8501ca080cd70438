"""A `labels` table against annotations: what agrees, image by image."""

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
    """One annotated image and what was said of it, at the network's size without padding (h, w)."""

    uri: str
    image: np.ndarray
    """(h, w, 3) uint8."""
    target: np.ndarray
    """(h, w) uint8."""
    predicted: np.ndarray
    """(h, w) uint8."""
    uncertainty: float
    """As in `labels`: mean Jensen-Shannon divergence of the most uncertain tenth of the pixels, in nats."""
    confusion: np.ndarray
    """int64 (K + 1, K + 1)."""
    pixels: int
    """Annotated with a class that counts: neither unlabelled nor the ignored one."""
    wrong: int
    """Of those."""


def score_labels(labels: pa.Table, annotations: Sequence[Annotation], task: Task) -> list[Scored]:
    """Compares rows of `labels` (`uri`, `status`, `width`, `height`, `mask`,
    `uncertainty`) with the annotations of the same images.

    Scored at the network's size, as published: a mask of `labels` has its image's own size, which is the network's
    label enlarged, and taking the middle of each cell gives that label back; where an image is smaller than the
    network's square, its mask has fewer pixels than the label had. Raises ValueError where an annotated image has no
    mask.
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
    """The label (h, w) that `images.restore_mask` made the mask (H, W) of; exact where H >= h and W >= w."""
    rows, columns = nearest(mask.shape[0], placement.height), nearest(mask.shape[1], placement.width)
    return mask[rows[:, None], columns]
