"""Chooses how masks are made (resize, refine, average), by cross-validation on the annotated images themselves."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

import torch

from ddpm_seg.data.annotations.load import Annotation, labelled_pixels, with_pixels
from ddpm_seg.data.canvas import fit
from ddpm_seg.data.decoding.decoder import read_apart
from ddpm_seg.data.fit_options import Refine, Resize
from ddpm_seg.data.image_labels import own_size_mask
from ddpm_seg.evaluation.scores.own_size import OwnSizeCounts, count, summary
from ddpm_seg.fits import Average, FitMode
from ddpm_seg.model.averaged import Averaged
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.resident import resident_extractor
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.model.views import finer
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.ensemble_training import train_members
from ddpm_seg.training.ensemble.extraction import Workplace, extract_features
from ddpm_seg.training.ensemble.members import on_raw_features
from ddpm_seg.training.ensemble.tuning import FOLDS, QUICK

logger = logging.getLogger(__name__)

AVERAGES: tuple[Average, ...] = ("none", "mirror", "shifts")
"""From cheap to dear, and so are WAYS; the defaults are first."""
WAYS: tuple[tuple[Resize, Refine], ...] = (
    ("bilinear", "none"),
    ("nearest", "none"),
    ("bilinear", "bilateral"),
    ("bilinear", "guided"),
)
WORTH = 0.005
"""A dearer way is chosen only if its mean IoU is higher by this much than that of every cheaper one."""
MOST_IMAGES = 40
"""More images are not scored: a large photograph takes seconds in every way."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MaskTrial:
    """One way of making masks, with its scores at the images' own size and its cost."""

    average: Average
    resize: Resize
    refine: Refine
    miou: float
    """Usual mean IoU on held-out images, in [0, 1], averaged over the folds."""
    deviation: float
    """Standard deviation of the mean IoU over the folds."""
    boundary_iou: float
    """Boundary IoU within 2 pixels, averaged over the folds."""
    seconds: float
    """Seconds per image on this machine, from its pixels to its mask."""


@dataclass(kw_only=True)
class _Found:
    counts: list[list[OwnSizeCounts]] = field(default_factory=lambda: [[] for _ in range(FOLDS)])
    seconds: float = 0


Way = tuple[Average, Resize, Refine]


def tune_masks(
    bundle: Bundle,
    annotations: Sequence[Annotation],
    task: Task,
    features: FeatureConfig,
    *,
    mode: FitMode,
    device: str,
    workplace: Workplace | None = None,
) -> list[MaskTrial]:
    """Tries every way, from cheap to dear, with small ensembles that were trained on the other images.

    `annotations` must have their masks at the images' own size, and at least `FOLDS` must have annotated pixels; the
    others are left out. Where no image is larger or
    smaller than the network's square, resize and refine change nothing and are not tried.
    """
    annotations = with_pixels(annotations, task)
    ways = WAYS if any(one.placement.resized for one in annotations) else WAYS[:1]
    found: dict[Way, _Found] = {(average, *way): _Found() for average in AVERAGES for way in ways}
    scored = 0
    for fold, segmenter in enumerate(_segmenters(bundle, annotations, task, features, device, workplace)):
        for one in annotations[fold : max(MOST_IMAGES, FOLDS) : FOLDS]:
            _score(one, segmenter, mode, found, fold)
            scored += 1
    return [_trial(way, one, task, scored) for way, one in found.items()]


def best_masks(trials: Sequence[MaskTrial]) -> MaskTrial:
    """The cheapest trial whose mean IoU is less than `WORTH` below the best."""
    best = max(trial.miou for trial in trials)
    return next(trial for trial in trials if trial.miou > best - WORTH)


def describe_masks(trials: Sequence[MaskTrial]) -> str:
    """All trials as a text table, from cheap to dear, and the one that is chosen."""
    lines = [f"{'mean IoU':<16}{'boundary':>10}{'s/image':>10}  masks"]
    for trial in trials:
        scores = f"{trial.miou:.3f} ± {trial.deviation:.3f}   {trial.boundary_iou:>10.3f}{trial.seconds:>10.3f}"
        lines.append(f"{scores}  {_flags(trial)}")
    lines.append(f"chosen: {_flags(best_masks(trials))}, the cheapest within {WORTH} of the best mean IoU")
    return "\n".join(lines)


def with_masks(features: FeatureConfig, chosen: MaskTrial) -> FeatureConfig:
    """`features` that say how to make masks, where the choice is not the default."""
    return dataclasses.replace(
        features,
        resize=None if chosen.resize == "bilinear" else chosen.resize,
        refine=None if chosen.refine == "none" else chosen.refine,
        average=None if chosen.average == "none" else chosen.average,
    )


def _flags(trial: MaskTrial) -> str:
    return f"--average {trial.average} --resize {trial.resize} --refine {trial.refine}"


def _segmenters(
    bundle: Bundle,
    annotations: Sequence[Annotation],
    task: Task,
    features: FeatureConfig,
    device: str,
    workplace: Workplace | None,
) -> Iterator[Segmenter]:
    """For each fold, a small ensemble trained on the other folds."""
    maps = extract_features(bundle, annotations, features, device, workplace)
    scale = maps.standardize()
    pixels, classes = labelled_pixels([annotation.label for annotation in annotations], task)
    pixels_P, labels_P = torch.from_numpy(pixels), torch.from_numpy(classes).long()
    fold_P = pixels_P // annotations[0].label.size % FOLDS
    extractor = resident_extractor(bundle, device)
    for fold in range(FOLDS):
        logger.info("masks: fold %d of %d", fold + 1, FOLDS)
        learnt = fold_P != fold
        trained = train_members(maps, pixels_P[learnt], labels_P[learnt], task.num_classes, QUICK)
        members = tuple(on_raw_features(one.weights, *scale) for one in trained)
        small = dataclasses.replace(
            bundle, features=features, task=task, members=members, calibration=None, domain=None
        )
        yield Segmenter(small, device=device, extractor=extractor)


def _score(one: Annotation, segmenter: Segmenter, mode: FitMode, found: dict[Way, _Found], fold: int) -> None:
    assert one.own is not None
    image, target = read_apart(one.own.read_image()).pixels, one.own_label()
    for average in AVERAGES:
        start = time.perf_counter()
        model = segmenter if average == "none" else Averaged(segmenter, average)
        canvas, placement = fit(image, segmenter.image_size, mode, finer(average))
        (answer,) = model.segment(canvas[None])
        seen = time.perf_counter() - start
        for way in found:
            if way[0] == average:
                start = time.perf_counter()
                mask = own_size_mask(answer, placement, *way[1:], image).mask
                found[way].seconds += seen + time.perf_counter() - start
                found[way].counts[fold].append(count(mask, None, target, segmenter.task))


def _trial(way: Way, found: _Found, task: Task, images: int) -> MaskTrial:
    folds = [summary(counts, task) for counts in found.counts]
    mious = [one["usual_miou"] or 0.0 for one in folds]
    average, resize, refine = way
    return MaskTrial(
        average=average,
        resize=resize,
        refine=refine,
        miou=fmean(mious),
        deviation=stdev(mious),
        boundary_iou=fmean(one["boundary_iou_2px"] or 0.0 for one in folds),
        seconds=found.seconds / images,
    )
