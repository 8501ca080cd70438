"""Trains an ensemble on the features of a network and a few annotated images (DDPM-Seg, section 3)."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import Annotation, labelled_pixels, load_annotations, load_pairs
from ddpm_seg.data.annotations.report import describe
from ddpm_seg.data.annotations.task_file import find_task
from ddpm_seg.errors import work_began
from ddpm_seg.evaluation.pages.annotation_review import Reviewed, annotation_review, review
from ddpm_seg.evaluation.scores import learnt_from
from ddpm_seg.evaluation.scores.miou import published_miou
from ddpm_seg.evaluation.scores.score import evaluate, labels_of
from ddpm_seg.fits import FitMode, chosen_fit, with_fit
from ddpm_seg.model.bundle.calibration import Calibration
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, open_bundle, save_bundle
from ddpm_seg.model.bundle.files import refuse_existing_bundle
from ddpm_seg.model.device.choice import chosen_device
from ddpm_seg.model.domain import LEAST_IMAGES, MAX_IMAGES
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.accepted import accepted_pairs
from ddpm_seg.training.ensemble.calibrating import annotated_pixels, calibrate, fitted
from ddpm_seg.training.ensemble.copies import Copies
from ddpm_seg.training.ensemble.ensemble_training import PUBLISHED, EnsembleConfig, train_members
from ddpm_seg.training.ensemble.extraction import Workplace, extract_features
from ddpm_seg.training.ensemble.feature_files import feature_uris
from ddpm_seg.training.ensemble.larger_input import at_side
from ddpm_seg.training.ensemble.mask_tuning import best_masks, describe_masks, tune_masks, with_masks
from ddpm_seg.training.ensemble.out_of_fold import FOLDS, out_of_fold
from ddpm_seg.training.ensemble.probed import probed_candidates
from ddpm_seg.training.ensemble.sources import refuse_other_pictures, sources_of
from ddpm_seg.training.ensemble.train_config import TrainConfig
from ddpm_seg.training.ensemble.tuning import Candidates, describe_frontier, frontier, tune

logger = logging.getLogger(__name__)

REVIEW = "annotation_review.html"


def train_from_config(config: TrainConfig) -> Bundle:
    """Trains and writes the bundle that `config` describes; resumes an interrupted training at the same output.

    Until it has finished, the output holds no bundle, only a folder "unfinished". Raises ValueError (`BundleError`,
    `AnnotationError`) or OSError, before training, for mistakes that the user can fix, and StageError if work fails on
    the cluster.
    """
    device = str(chosen_device(config.device))
    training, copies = _training(config), Copies(mirror=config.mirror, recolour=config.recolour)
    if config.tune and (config.steps or config.blocks):
        raise ValueError("--tune chooses the steps and blocks: leave out --steps and --blocks, or --tune")
    task = find_task(config.task)
    header, bundle = open_bundle(config.model)
    candidates = probed_candidates(config.probe, bundle.network) if config.probe is not None else None
    fit = chosen_fit(config.model, bundle.provenance, config.fit)
    bundle = dataclasses.replace(bundle, provenance=with_fit(bundle.provenance, fit))
    if config.image_size is not None:
        bundle = at_side(bundle, config.image_size)
    features = choose_features(
        bundle, config.steps, config.blocks, config.upsample_mode, config.truncation, config.noise_draws
    )
    if not bundle.network.reads_images:
        _refuse_what_needs_images(config, bundle.network.title)
    refuse_existing_bundle(config.output)
    storage.check_writable(config.output)
    size = bundle.network.image_size
    annotations = _annotations(config, size, task, fit)
    held_out, calibration_set = (
        load_annotations(images, image_size=size, task=task, options=config, mode=fit) if images else []
        for images in (config.validation, config.calibration)
    )
    if config.out_of_fold and len(annotations) < FOLDS:
        raise ValueError(f"--out-of-fold holds images out: it needs at least {FOLDS}, got {len(annotations)}")
    logger.info("%d annotated images:\n%s", len(annotations), describe(annotations, task))
    if not bundle.network.reads_images:
        refuse_other_pictures(bundle, annotations, features.truncation, device)
    workplace = Workplace.at(config.output, config.model, header.model_id, config.num_actors)
    if config.tune:
        features = _tuned(features, bundle, annotations, task, device, workplace, candidates)
        if bundle.network.reads_images:
            features = _with_tuned_masks(features, bundle, annotations, task, fit, device, workplace)
        annotations = [dataclasses.replace(one, own=None) for one in annotations]
    trained = train_bundle(
        bundle,
        annotations,
        task=task,
        features=features,
        training=training,
        copies=copies,
        device=device,
        workplace=workplace,
    )
    if held_out:
        trained = _validated(trained, held_out, device)
    if calibration_set:
        trained = dataclasses.replace(trained, calibration=calibrate(trained, calibration_set, device=device))
    if config.out_of_fold:
        maps = extract_features(bundle, annotations, features, device, workplace)
        calibration = _review(config.output, out_of_fold(maps, annotations, task, training), task)
        trained = dataclasses.replace(trained, calibration=trained.calibration or calibration)
    with work_began():
        save_bundle(trained, config.output)
        storage.delete(workplace.folder)
    return trained


def _training(config: TrainConfig) -> EnsembleConfig:
    recipe = PUBLISHED if config.recipe == "published" else EnsembleConfig()
    iterations = recipe.iterations if config.iterations is None else config.iterations
    return dataclasses.replace(recipe, members=config.members, iterations=iterations, seed=config.seed)


def _tuned(
    features: FeatureConfig,
    bundle: Bundle,
    annotations: Sequence[Annotation],
    task: Task,
    device: str,
    workplace: Workplace,
    candidates: Candidates | None,
) -> FeatureConfig:
    """`features` with the steps and blocks that score best in cross-validation."""
    trials = tune(
        bundle,
        annotations,
        task,
        upsample_mode=features.upsample_mode,
        device=device,
        truncation=features.truncation,
        noise_draws=features.noise_draws,
        candidates=candidates,
        workplace=workplace,
    )
    logger.info("steps and blocks:\n%s", describe_frontier(trials))
    best = frontier(trials)[-1]
    return dataclasses.replace(features, steps=best.steps, blocks=best.blocks)


def _with_tuned_masks(
    features: FeatureConfig,
    bundle: Bundle,
    annotations: Sequence[Annotation],
    task: Task,
    fit: FitMode,
    device: str,
    workplace: Workplace,
) -> FeatureConfig:
    """`features` that say how jobs.label makes masks, as cross-validation found best."""
    trials = tune_masks(bundle, annotations, task, features, mode=fit, device=device, workplace=workplace)
    logger.info("masks:\n%s", describe_masks(trials))
    return with_masks(features, best_masks(trials))


def _validated(trained: Bundle, held_out: Sequence[Annotation], device: str) -> Bundle:
    """`trained`, with its score on the validation images in its provenance."""
    miou = score(trained, held_out, device=device)
    logger.info("mean IoU on %d validation images: %.4f", len(held_out), miou)
    validation = {"images": len(held_out), "published_miou": miou}
    return dataclasses.replace(trained, provenance={**trained.provenance, "validation": validation})


def _annotations(config: TrainConfig, size: int, task: Task, fit: FitMode) -> list[Annotation]:
    if config.only is None:
        return load_annotations(
            config.images,
            image_size=size,
            task=task,
            limit=config.limit,
            options=config,
            mode=fit,
            own_size=config.tune,
        )
    pairs = accepted_pairs(config.images, config.only, task, config.image_root)
    return load_pairs(pairs[: config.limit], image_size=size, task=task, options=config, mode=fit, own_size=config.tune)


def _review(output: str, found: Iterable[tuple[Annotation, NDArray[np.float32]]], task: Task) -> Calibration:
    """Writes the review of the annotations; returns what they calibrate."""
    reviewed: list[Reviewed] = []
    pixels: list[tuple[NDArray[np.float32], NDArray[np.uint8]]] = []
    for annotation, p_KSS in found:
        reviewed.append(review(annotation, p_KSS, task))
        pixels.append(annotated_pixels(p_KSS, annotation, task, len(pixels)))
    page = storage.join(output, REVIEW)
    with work_began():
        storage.write_bytes(page, annotation_review(reviewed, task).encode())
    logger.info("annotations to look at: %s", storage.redact(page))
    return fitted(pixels, task)


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


def _refuse_what_needs_images(config: TrainConfig, title: str) -> None:
    for name in ("mirror", "recolour", "validation", "calibration"):
        if getattr(config, name):
            raise ValueError(
                f"--{name} needs features of other images than those that a {title} draws: leave it out (for the "
                "student, ddpm-seg distill has it)"
            )


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
    segmenter = Segmenter(bundle, device=device)
    return published_miou(evaluate(labels_of(segmenter), annotations, segmenter.task), segmenter.task.ignore_label)
