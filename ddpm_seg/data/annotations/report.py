"""Summarises annotations by class, to be checked before training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ddpm_seg.data.annotations.load import Annotation, min_class_pixels
from ddpm_seg.tasks import Task

NO_CLASS = "(no class: 255)"


def describe(annotations: Sequence[Annotation], task: Task) -> str:
    """A text table of each class's pixels and images, at the network's size and without padding.

    `too small` counts the images in which a class has too few pixels to be trained on (`min_class_pixels`).
    """
    crops = [annotation.placement.crop(annotation.label) for annotation in annotations]
    counts_NC = np.stack([np.bincount(crop.reshape(-1), minlength=256) for crop in crops])
    total, least = int(counts_NC.sum()), min_class_pixels(len(annotations[0].label))
    width = max(map(len, (*task.class_names, NO_CLASS)))
    lines = [f"{'class':<{width}}  {'pixels':>11}  {'share':>7}  images  too small"]
    for class_id, name in enumerate(task.class_names):
        counts_N = counts_NC[:, class_id]
        if not counts_N.any():
            continue
        ignored = "  (ignored)" if class_id == task.ignore_label else ""
        shown, small = int((counts_N > 0).sum()), int(((counts_N > 0) & (counts_N < least)).sum())
        pixels = int(counts_N.sum())
        lines.append(f"{name:<{width}}  {pixels:>11,}  {pixels / total:>7.2%}  {shown:>6}  {small:>9}{ignored}")
    unlabelled = int(counts_NC[:, task.num_classes :].sum())
    lines.append(f"{NO_CLASS:<{width}}  {unlabelled:>11,}  {unlabelled / total:>7.2%}")
    shown_nowhere = [name for i, name in enumerate(task.class_names) if not counts_NC[:, i].any()]
    if shown_nowhere:
        lines.append(f"in no image: {', '.join(shown_nowhere)}")
    return "\n".join(lines)
