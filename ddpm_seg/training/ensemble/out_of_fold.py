"""What ensembles say of annotated images that they were not trained on: each image by one trained on the others."""

# Shapes: P pixels, D features, K classes, S x S pixels of an image.

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_seg.data.annotations.load import Annotation, labelled_pixels
from ddpm_seg.model.ensemble import Member
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig, train_members
from ddpm_seg.training.ensemble.members import mean_softmax
from ddpm_seg.training.ensemble.pixel_features import PixelFeatures

logger = logging.getLogger(__name__)

FOLDS = 4
MEMBERS = 2
SHARE = 0.45
"""Share of the ensemble's own iterations that each fold trains for: all folds together take less than half its time."""
BLOCK = 4096
"""Pixels whose features are held at once."""


def out_of_fold(
    maps: PixelFeatures, annotations: Sequence[Annotation], task: Task, training: EnsembleConfig
) -> Iterator[tuple[Annotation, NDArray[np.float32]]]:
    """Each annotated image with probabilities (K, S, S) from small ensembles that were trained on the other folds.

    `maps` has the features of `annotations`, in their order; at least `FOLDS` images. It is standardised in place if
    the `training` does that.
    """
    pixels, classes = labelled_pixels([annotation.label for annotation in annotations], task)
    pixels_P, labels_P = torch.from_numpy(pixels), torch.from_numpy(classes).long()
    fold_P = pixels_P // annotations[0].label.size % FOLDS
    if training.standardize:
        maps.standardize()  # once: each fold's members must read features of one and the same scale
    small = _smaller(training)
    for fold in range(FOLDS):
        logger.info("fold %d of %d", fold + 1, FOLDS)
        learnt = fold_P != fold
        trained = train_members(maps, pixels_P[learnt], labels_P[learnt], task.num_classes, small)
        members = [member.weights for member in trained]
        for index in range(fold, len(annotations), FOLDS):
            yield annotations[index], _probabilities(maps, index, members)


def _smaller(training: EnsembleConfig) -> EnsembleConfig:
    iterations = None if training.iterations is None else max(1, round(SHARE * training.iterations))
    members = min(MEMBERS, training.members)
    return dataclasses.replace(training, members=members, iterations=iterations, standardize=False)


@torch.inference_mode()
def _probabilities(maps: PixelFeatures, index: int, members: Sequence[Member]) -> NDArray[np.float32]:
    """The members' mean softmax (K, S, S) for image number `index`."""
    size = maps.image_size
    blocks = []
    for pixels_P in torch.arange(index * size**2, (index + 1) * size**2).split(BLOCK):
        x_PD = maps.gather(pixels_P)
        blocks.append(mean_softmax(members, x_PD).cpu())
    return torch.cat(blocks).T.reshape(-1, size, size).numpy()
