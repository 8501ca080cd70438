"""Trains an ensemble on the features of a network and a few annotated images (DDPM-Seg, section 3)."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import Annotation, labelled_pixels
from ddpm_seg.errors import work_began
from ddpm_seg.evaluation.scores import learnt_from
from ddpm_seg.evaluation.scores.miou import published_miou
from ddpm_seg.evaluation.scores.score import evaluate, labels_of
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.domain import LEAST_IMAGES, MAX_IMAGES
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.as_labelled import as_seen, labelling
from ddpm_seg.training.ensemble.copies import Copies
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig, train_members
from ddpm_seg.training.ensemble.extraction import Workplace, extract_features
from ddpm_seg.training.ensemble.feature_files import feature_uris
from ddpm_seg.training.ensemble.sources import sources_of

logger = logging.getLogger(__name__)


def choose_features(
    bundle: Bundle,
    steps: tuple[int, ...] | None = None,
    blocks: tuple[int, ...] | None = None,
    upsample_mode: Literal["bilinear", "nearest"] | None = None,
    truncation: float | None = None,
    noise_draws: int | None = None,
) -> FeatureConfig:
    """The features asked for, else those that the bundle was trained with, else the published ones scaled to its
    network.

    Raises ValueError for a step or block that the network does not have.
    """
    chosen = bundle.features or bundle.network.published_features()
    if truncation is not None and chosen.truncation is None:
        raise ValueError(f"--truncation is not for a {bundle.network.title}: leave it out")
    features = FeatureConfig(
        steps=chosen.steps if steps is None else steps,
        blocks=tuple(sorted(set(chosen.blocks if blocks is None else blocks))),
        upsample_mode=upsample_mode or chosen.upsample_mode,
        truncation=chosen.truncation if truncation is None else truncation,
        noise_draws=chosen.noise_draws if noise_draws is None else noise_draws if noise_draws > 1 else None,
    )
    features.check(bundle.network)
    return features


def train_bundle(
    bundle: Bundle,
    annotations: Sequence[Annotation],
    *,
    task: Task,
    features: FeatureConfig,
    training: EnsembleConfig,
    copies: Copies = Copies(),  # noqa: B008  frozen
    device: str = "cpu",
    workplace: Workplace | None = None,
) -> Bundle:
    """`bundle` with an ensemble for `task`, trained on `annotations` and their `copies`; the provenance records how.

    Reuses what an interrupted training with the same images and settings left at the `workplace`.
    """
    shown = copies.added_to(annotations, training.seed, task)
    pixels, labels = labelled_pixels([annotation.label for annotation in shown], task)
    logger.info("%d annotated images, %d labelled pixels", len(annotations), len(pixels))
    maps = extract_features(bundle, shown, features, device, workplace)
    domain = maps.described(min(len(annotations), MAX_IMAGES)) if len(annotations) >= LEAST_IMAGES else None
    with work_began():
        trained = train_members(
            maps,
            torch.from_numpy(pixels),
            torch.from_numpy(labels).long(),
            task.num_classes,
            training,
            state_uri=_state_uri(bundle, shown, task, features, training, workplace) if workplace else None,
        )
    how: dict[str, Any] = {
        "images": len(annotations),
        "copies": dataclasses.asdict(copies),
        "labelled_pixels": len(pixels),
        "training": dataclasses.asdict(training),
        "iterations": [member.iterations for member in trained],
        "final_loss": [member.loss for member in trained],
    }
    return dataclasses.replace(
        bundle,
        features=features,
        task=task,
        members=tuple(member.weights for member in trained),
        calibration=None,
        domain=domain,
        # A validation score of the replaced ensemble does not apply to the new one.
        provenance={
            **{k: v for k, v in bundle.provenance.items() if k != "validation"},
            "ensemble": how,
            learnt_from.KEY: learnt_from.record(annotations),
        },
    )


def _state_uri(
    bundle: Bundle,
    shown: Sequence[Annotation],
    task: Task,
    features: FeatureConfig,
    training: EnsembleConfig,
    workplace: Workplace,
) -> str:
    """Where the members' unfinished training is saved, named by a hash of everything that it depends on."""
    named = hashlib.sha256(repr((task.num_classes, task.ignore_label, training)).encode())
    for uri in feature_uris(bundle, sources_of(bundle, shown), features, workplace.folder):
        named.update(uri.encode())
    for annotation in shown:
        named.update(np.ascontiguousarray(annotation.label).data)
    return storage.join(workplace.folder, f"members-{named.hexdigest()[:32]}.pt")


def score(bundle: Bundle, annotations: Sequence[Annotation], *, device: str | None = None) -> float:
    """Published mean IoU in [0, 1] of `bundle` on annotated images, at the network's resolution, without padding."""
    model = labelling(Segmenter(bundle, device=device), bundle)
    return published_miou(evaluate(labels_of(model), as_seen(annotations, bundle), model.task), model.task.ignore_label)
