"""Trains the bundle that `jobs.train` is asked for: reads and checks everything, then tunes, trains and calibrates."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.load import Annotation, load_annotations, load_pairs
from ddpm_seg.data.annotations.report import describe
from ddpm_seg.data.annotations.task_file import find_task
from ddpm_seg.errors import work_began
from ddpm_seg.evaluation.pages.annotation_review import Reviewed, annotation_review, review
from ddpm_seg.fits import FitMode, chosen_fit, with_fit
from ddpm_seg.model.bundle.calibration import Calibration
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, open_bundle, save_bundle
from ddpm_seg.model.bundle.files import refuse_existing_bundle
from ddpm_seg.model.device.choice import chosen_device
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.accepted import accepted_pairs
from ddpm_seg.training.ensemble.as_labelled import tuned_average
from ddpm_seg.training.ensemble.calibrating import annotated_pixels, calibrate, fitted
from ddpm_seg.training.ensemble.copies import Copies
from ddpm_seg.training.ensemble.ensemble_training import PUBLISHED, EnsembleConfig
from ddpm_seg.training.ensemble.extraction import Workplace, extract_features
from ddpm_seg.training.ensemble.few_shot import choose_features, score, train_bundle
from ddpm_seg.training.ensemble.larger_input import at_side
from ddpm_seg.training.ensemble.mask_tuning import best_masks, describe_masks, tune_masks, with_masks
from ddpm_seg.training.ensemble.out_of_fold import FOLDS, out_of_fold
from ddpm_seg.training.ensemble.probed import probed_candidates
from ddpm_seg.training.ensemble.sources import refuse_other_pictures
from ddpm_seg.training.ensemble.train_config import TrainConfig
from ddpm_seg.training.ensemble.tuning import Candidates, describe_frontier, frontier, tune

logger = logging.getLogger(__name__)

REVIEW = "annotation_review.html"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Training:
    """What a command line describes, read and checked."""

    config: TrainConfig
    training: EnsembleConfig
    copies: Copies
    device: str
    task: Task
    bundle: Bundle
    """The network; its ensemble is replaced."""
    features: FeatureConfig
    fit: FitMode
    candidates: Candidates | None
    annotations: list[Annotation]
    held_out: list[Annotation]
    calibration_set: list[Annotation]
    workplace: Workplace


def train_from_config(config: TrainConfig) -> Bundle:
    """Trains and writes the bundle that `config` describes; resumes an interrupted training at the same output.

    Until it has finished, the output holds no bundle, only a folder "unfinished". Raises ValueError (`BundleError`,
    `AnnotationError`) or OSError, before training, for mistakes that the user can fix, and StageError if work fails on
    the cluster.
    """
    asked = _read(config)
    if config.tune:
        asked = _tuned(asked)
    trained = _calibrated(asked, _trained(asked))
    with work_began():
        save_bundle(trained, config.output)
        storage.delete(asked.workplace.folder)
    return trained


def _read(config: TrainConfig) -> _Training:
    """Raises what `train_from_config` raises for mistakes."""
    device = str(chosen_device(config.device))
    training, copies = _ensemble_config(config), Copies(mirror=config.mirror, recolour=config.recolour)
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
        load_annotations(images, image_size=size, task=task, options=config, mode=fit, own_size=config.tune)
        if images
        else []
        for images in (config.validation, config.calibration)
    )
    if config.out_of_fold and len(annotations) < FOLDS:
        raise ValueError(f"--out-of-fold holds images out: it needs at least {FOLDS}, got {len(annotations)}")
    logger.info("%d annotated images:\n%s", len(annotations), describe(annotations, task))
    if not bundle.network.reads_images:
        refuse_other_pictures(bundle, annotations, features.truncation, device)
    return _Training(
        config=config,
        training=training,
        copies=copies,
        device=device,
        task=task,
        bundle=bundle,
        features=features,
        fit=fit,
        candidates=candidates,
        annotations=annotations,
        held_out=held_out,
        calibration_set=calibration_set,
        workplace=Workplace.at(config.output, config.model, header.model_id, config.num_actors),
    )


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


def _refuse_what_needs_images(config: TrainConfig, title: str) -> None:
    for name in ("mirror", "recolour", "validation", "calibration"):
        if getattr(config, name):
            raise ValueError(
                f"--{name} needs features of other images than those that a {title} draws: leave it out (for the "
                "student, ddpm-seg distill has it)"
            )


def _tuned(asked: _Training) -> _Training:
    """With the steps and blocks, and the way of making masks, that score best in cross-validation."""
    bundle, annotations, task = asked.bundle, asked.annotations, asked.task
    trials = tune(
        bundle,
        annotations,
        task,
        upsample_mode=asked.features.upsample_mode,
        device=asked.device,
        truncation=asked.features.truncation,
        noise_draws=asked.features.noise_draws,
        candidates=asked.candidates,
        workplace=asked.workplace,
    )
    logger.info("steps and blocks:\n%s", describe_frontier(trials))
    best = frontier(trials)[-1]
    features = dataclasses.replace(asked.features, steps=best.steps, blocks=best.blocks)
    if bundle.network.reads_images:
        masks = tune_masks(
            bundle, annotations, task, features, mode=asked.fit, device=asked.device, workplace=asked.workplace
        )
        logger.info("masks:\n%s", describe_masks(masks))
        features = with_masks(features, best_masks(masks))
    return dataclasses.replace(asked, features=features)


def _trained(asked: _Training) -> Bundle:
    """The bundle with its ensemble; with its score on the validation images, if there are any, in the provenance."""
    trained = train_bundle(
        asked.bundle,
        asked.annotations,
        task=asked.task,
        features=asked.features,
        training=asked.training,
        copies=asked.copies,
        device=asked.device,
        workplace=asked.workplace,
    )
    if not asked.held_out:
        return trained
    miou = score(trained, asked.held_out, device=asked.device)
    logger.info("mean IoU on %d validation images: %.4f", len(asked.held_out), miou)
    validation = {"images": len(asked.held_out), "published_miou": miou}
    return dataclasses.replace(trained, provenance={**trained.provenance, "validation": validation})


def _ensemble_config(config: TrainConfig) -> EnsembleConfig:
    recipe = PUBLISHED if config.recipe == "published" else EnsembleConfig()
    iterations = recipe.iterations if config.iterations is None else config.iterations
    return dataclasses.replace(recipe, members=config.members, iterations=iterations, seed=config.seed)


def _calibrated(asked: _Training, trained: Bundle) -> Bundle:
    """`trained` with temperatures from --calibration, else from images held out in turn, if either is asked for."""
    if asked.calibration_set:
        temperatures = calibrate(trained, asked.calibration_set, device=asked.device)
        trained = dataclasses.replace(trained, calibration=temperatures)
    if not asked.config.out_of_fold:
        return trained
    maps = extract_features(asked.bundle, asked.annotations, asked.features, asked.device, asked.workplace)
    averaged = None if tuned_average(trained) == "none" else trained
    found = out_of_fold(maps, asked.annotations, asked.task, asked.training, averaged)
    calibration = _review(asked.config.output, found, asked.task)
    return dataclasses.replace(trained, calibration=trained.calibration or calibration)


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
