"""Fits a trained ensemble's temperatures on annotated images that it was not trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.load import Annotation, counted_pixels
from ddpm_seg.evaluation.scores.temperature import fit_temperatures
from ddpm_seg.model.averaged import Averaged
from ddpm_seg.model.bundle.calibration import Calibration
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.progress import track
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.as_labelled import as_seen, labelling

logger = logging.getLogger(__name__)

PIXELS = 4096
"""At most this many pixels per image are used, as neighbouring pixels tell much the same."""


def calibrate(bundle: Bundle, annotations: Sequence[Annotation], *, device: str | None = None) -> Calibration:
    """Temperatures for `bundle`, ignoring any that it has. Raises AnnotationError if no pixel is annotated."""
    model = labelling(Segmenter(bundle, device=device), bundle)
    found = [
        annotated_pixels(before_calibration(model, one), one, model.task, seed)
        for seed, one in enumerate(track(as_seen(annotations, bundle), "calibrating", unit="images"))
    ]
    return fitted(found, model.task)


def before_calibration(model: Segmenter | Averaged, one: Annotation) -> NDArray[np.float32]:
    """Probabilities (K, S, S) that `model` gives an image, on the grid of its mask."""
    return next(model.votes(one.image[None])).probabilities.cpu().numpy()


def fitted(found: Sequence[tuple[NDArray[np.float32], NDArray[np.uint8]]], task: Task) -> Calibration:
    """Temperatures from each image's `annotated_pixels`. Raises AnnotationError if there are none."""
    p_PK, target_P = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if not len(p_PK):
        raise AnnotationError("none of the images to calibrate with has a pixel of a class that is not ignored")
    temperatures = fit_temperatures(p_PK, target_P)
    shown = (f"{name} {one:.2f}" for name, one in zip(task.class_names, temperatures, strict=True))
    logger.info("temperatures from %d images: %s", len(found), ", ".join(shown))
    return Calibration(temperatures=temperatures, images=len(found))


def annotated_pixels(
    p_KSS: NDArray[np.float32], annotation: Annotation, task: Task, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Probabilities (P, K) and ids (P,) of pixels of a class that is not ignored: at most `PIXELS`, drawn with
    `seed`."""
    crop = annotation.placement.crop
    p_PK = crop(p_KSS.transpose(1, 2, 0)).reshape(-1, len(p_KSS))
    target_P = crop(annotation.label).reshape(-1)
    chosen = np.flatnonzero(counted_pixels(target_P, task))
    if len(chosen) > PIXELS:
        chosen = np.random.default_rng(seed).choice(chosen, PIXELS, replace=False)
    return p_PK[chosen], target_P[chosen]
