"""Augmented copies of annotated images to train on: mirror images and slight colour changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.tasks import Task
from ddpm_seg.training.augmentation import mirrored_labels, slightly_recoloured


@dataclass(frozen=True, kw_only=True, slots=True)
class Copies:
    """Which copies to add."""

    mirror: bool = False
    """Add each image's mirror image."""
    recolour: int = 0
    """Number of recoloured copies of each image, and of its mirror image."""

    def __post_init__(self) -> None:
        if self.recolour < 0:
            raise ValueError(f"recolour is {self.recolour}, expected 0 or more copies of every image")

    def added_to(self, annotations: Sequence[Annotation], seed: int, task: Task | None = None) -> list[Annotation]:
        """`annotations` followed by their copies; the same seed gives the same copies. Mirror images swap the classes
        that the `task` pairs."""
        shown = [*annotations]
        if self.mirror:
            shown += [mirrored(one, task) for one in annotations]
        generator = torch.Generator().manual_seed(seed)
        return shown + [recoloured(one, generator) for _ in range(self.recolour) for one in shown]


def mirrored(annotation: Annotation, task: Task | None = None) -> Annotation:
    """The annotation with image and labels mirrored, and the classes swapped that the `task` pairs."""
    placement = annotation.placement
    label = annotation.label[:, ::-1]
    left = annotation.label.shape[1] - placement.left - placement.width
    return dataclasses.replace(
        annotation,
        image=annotation.image[:, ::-1],
        label=np.ascontiguousarray(label) if task is None else mirrored_labels(task)[label],
        placement=dataclasses.replace(placement, left=left),
    )


def recoloured(annotation: Annotation, generator: torch.Generator) -> Annotation:
    """The annotation with the colours of its image slightly changed."""
    return dataclasses.replace(annotation, image=slightly_recoloured(annotation.image[None], generator)[0])
