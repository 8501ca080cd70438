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
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.ensemble import Member
from ddpm_seg.model.resident import resident_extractor
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.as_labelled import as_seen, labelling
from ddpm_seg.training.ensemble.calibrating import before_calibration
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig, train_members
from ddpm_seg.training.ensemble.members import mean_softmax, on_raw_features
from ddpm_seg.training.ensemble.pixel_features import PixelFeatures

logger = logging.getLogger(__name__)

FOLDS = 4
MEMBERS = 2
SHARE = 0.45
"""Share of the ensemble's own iterations that each fold trains for: all folds together take less than half its time."""
BLOCK = 4096
"""Pixels whose features are held at once."""


def out_of_fold(
    maps: PixelFeatures,
    annotations: Sequence[Annotation],
    task: Task,
    training: EnsembleConfig,
    averaged: Bundle | None = None,
) -> Iterator[tuple[Annotation, NDArray[np.float32]]]:
    """Each annotated image with probabilities (K, S, S) from small ensembles that were trained on the other folds.

    `maps` has the features of `annotations`, in their order; at least `FOLDS` images. It is standardised in place if
    the `training` does that. With `averaged`, a trained bundle that averages over views, the folds' ensembles answer as
    it would; the images pass through its network again.
    """
    pixels, classes = labelled_pixels([annotation.label for annotation in annotations], task)
    pixels_P, labels_P = torch.from_numpy(pixels), torch.from_numpy(classes).long()
    fold_P = pixels_P // annotations[0].label.size % FOLDS
    # Once: each fold's members must read features of one and the same scale.
    scale = maps.standardize() if training.standardize else None
    extractor = resident_extractor(averaged, str(maps.device)) if averaged is not None else None
    small = _smaller(training)
    for fold in range(FOLDS):
        logger.info("fold %d of %d", fold + 1, FOLDS)
        learnt = fold_P != fold
        trained = train_members(maps, pixels_P[learnt], labels_P[learnt], task.num_classes, small)
        members = [member.weights for member in trained]
        own = annotations[fold::FOLDS]
        if averaged is not None:
            raw = tuple(on_raw_features(one, *scale) if scale else one for one in members)
            held = dataclasses.replace(averaged, members=raw, calibration=None, domain=None)
            model = labelling(Segmenter(held, device=str(maps.device), extractor=extractor), held)
            seen = zip(own, as_seen(own, held), strict=True)
            yield from ((one, before_calibration(model, shown)) for one, shown in seen)
            continue
        for number, one in enumerate(own):
            yield one, _probabilities(maps, fold + number * FOLDS, members)


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
