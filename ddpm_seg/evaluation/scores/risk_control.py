"""Conformal risk control (Angelopoulos et al., 2022, "Conformal risk control"): chooses which pixels to leave out, so
that on average over new images at most a given share of the pixels is kept although wrong."""

# Shapes: N calibration images, L levels of confidence.

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 256
"""Confidence is counted in steps of 1/255."""


class TooFewImagesError(ValueError):
    """There are too few calibration images for any threshold to guarantee the target."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """The confidence from which pixels are kept."""

    confidence: int
    """Smallest confidence that is kept, times 255; 256 keeps nothing."""
    target: float
    images: int
    """Number of calibration images."""
    kept: float
    """Mean share of the calibration images' pixels that is kept, in [0, 1]."""

    def __str__(self) -> str:
        return (
            f"for new images like the {self.images} calibration images, on average at most {self.target:.3g} of an "
            "image's pixels are kept and wrong (conformal risk control, Angelopoulos et al., 2022)"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """Results for one calibration image, as shares of its annotated pixels."""

    wrong: NDArray[np.float64]
    """float64 (L + 1,): share that is kept and wrong at each threshold 0..256; falls to 0."""
    kept: NDArray[np.float64]
    """float64 (L + 1,): share that is kept at each threshold."""


def kept_shares(
    confidence: NDArray[np.uint8], predicted: NDArray[np.uint8], target: NDArray[np.uint8], num_classes: int
) -> Kept:
    """What each threshold on `confidence` (H, W) uint8 keeps of one image, among pixels annotated with a class. Raises
    ValueError if there are none."""
    annotated = (target >= 0) & (target < num_classes)
    if not annotated.any():
        raise ValueError("no pixel of the image is annotated")
    levels = confidence[annotated]
    wrong = levels[predicted[annotated] != target[annotated]]
    wrong_L, kept_L = (_at_least(one) / len(levels) for one in (wrong, levels))
    return Kept(wrong=wrong_L, kept=kept_L)


def images_needed(target: float) -> int:
    """The smallest number of calibration images with which a threshold can guarantee `target`: n >= 1 / target - 1."""
    return math.ceil(round(1 / target - 1, 9))


def check_enough(images: int, target: float) -> None:
    """Raises TooFewImagesError if this many calibration images cannot guarantee `target`."""
    if images < images_needed(target):
        raise TooFewImagesError(
            f"a target error of {target:.3g} needs at least {images_needed(target)} calibration images, but there are "
            f"{images}; annotate more, or accept a larger error"
        )


def control_risk(images: list[Kept], target: float) -> Threshold:
    """The lowest threshold whose bound on a new image's mean loss is at most `target` (section 1.1, equation 4):

        (n R(t) + B) / (n + 1) <= target

    with R the mean loss over n calibration images and B = 1 its upper bound. Raises TooFewImagesError if even keeping
    nothing does not satisfy it, ValueError for a target outside (0, 1).
    """
    if not 0 < target < 1:
        raise ValueError(f"the target error must lie between 0 and 1, got {target}")
    check_enough(len(images), target)
    total_L = np.sum([image.wrong for image in images], axis=0)
    # With the smallest number of images and no loss, the bound equals the target: tolerate rounding.
    fits = (total_L + 1) <= target * (len(images) + 1) * (1 + 1e-12)
    threshold = int(np.argmax(fits))
    kept = float(np.mean([image.kept[threshold] for image in images]))
    return Threshold(confidence=threshold, target=target, images=len(images), kept=kept)


def _at_least(levels: NDArray[Any]) -> NDArray[Any]:
    """For each of 0..256, how many of `levels` are at least that."""
    return np.bincount(levels, minlength=LEVELS + 1)[::-1].cumsum()[::-1]
