"""Labels annotated images and counts the pixels that agree."""

# Shapes: images of S x S pixels, K classes.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.evaluation.scores.miou import confusion_matrix
from ddpm_seg.progress import track
from ddpm_seg.tasks import Task

if TYPE_CHECKING:
    from ddpm_seg.model.trained import ResidentModel

Labeller = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""Images (N, S, S, 3) uint8 to class ids (N, S, S) uint8."""

BATCH = 20


def evaluate(label: Labeller, annotations: Sequence[Annotation], task: Task) -> NDArray[np.int64]:
    """Confusion matrix int64 (K + 1, K + 1) of `label` on annotated images, without padding."""
    total = np.zeros((task.num_classes + 1, task.num_classes + 1), dtype=np.int64)
    for start in track(range(0, len(annotations), BATCH), "scoring", unit="batches"):
        batch = annotations[start : start + BATCH]
        labels = label(np.stack([annotation.image for annotation in batch]))
        for annotation, predicted in zip(batch, labels, strict=True):
            crop = annotation.placement.crop
            total += confusion_matrix(crop(predicted), crop(annotation.label), task.num_classes)
    return total


def labels_of(segmenter: ResidentModel) -> Labeller:
    """`segmenter` as a function from images to class ids, for `evaluate`."""
    return lambda images: np.stack([pixels.label for pixels in segmenter.segment(images)])
