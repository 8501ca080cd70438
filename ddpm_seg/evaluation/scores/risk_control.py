"""Conformal risk control (Angelopoulos et al., 2022, "Conformal risk control"): which pixels to leave out, so that at
most a given share of an image's pixels is kept and wrong, on average over new images."""

# Shapes: N calibration images, L levels of confidence.

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVELS = 256
"""Confidence is counted in 255ths."""


class TooFewImagesError(ValueError):
    """No threshold can promise this target with so few calibration images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """Pixels with at least this confidence are kept."""

    confidence: int
    """In 255ths; 256 keeps none."""
    target: float
    images: int
    """For calibration."""
    kept: float
    """Mean share of their pixels that is kept, in [0, 1]."""

    def __str__(self) -> str:
        return (
            f"for new images like the {self.images} calibration images, on average at most {self.target:.3g} of an "
            "image's pixels are kept and wrong (conformal risk control, Angelopoulos et al., 2022)"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept:
    """One calibration image: shares of its annotated pixels."""

    wrong: NDArray[np.float64]
    """float64 (L + 1,): kept and wrong at each threshold 0..256; falls to 0."""
    kept: NDArray[np.float64]
    """float64 (L + 1,): kept."""


def kept_shares(
    confidence: NDArray[np.uint8], predicted: NDArray[np.uint8], target: NDArray[np.uint8], num_classes: int
) -> Kept:
    """What each threshold on `confidence` (H, W) uint8 keeps of one image. Pixels without an annotated class are no
    part of it. Raises ValueError where no pixel has one."""
    annotated = (target >= 0) & (target < num_classes)
    if not annotated.any():
        raise ValueError("no pixel of the image is annotated")
    levels = confidence[annotated]
    wrong = levels[predicted[annotated] != target[annotated]]
    wrong_L, kept_L = (_at_least(one) / len(levels) for one in (wrong, levels))
    return Kept(wrong=wrong_L, kept=kept_L)


def images_needed(target: float) -> int:
    """The fewest calibration images with which any threshold can promise `target`: n >= 1 / target - 1."""
    return math.ceil(round(1 / target - 1, 9))


def control_risk(images: list[Kept], target: float) -> Threshold:
    """The lowest threshold whose bound on the mean loss of a new image is at most `target` (section 1.1, equation 4):

        (n R(t) + B) / (n + 1) <= target

    with R the mean loss of the n calibration images and B = 1 its bound. Raises TooFewImagesError where not even
    keeping nothing satisfies it, and ValueError for a target outside (0, 1).
    """
    if not 0 < target < 1:
        raise ValueError(f"the target error must lie between 0 and 1, got {target}")
    if len(images) < images_needed(target):
        raise TooFewImagesError(
            f"a target error of {target:.3g} takes at least {images_needed(target)} calibration images, and there are "
            f"{len(images)}; annotate more, or accept a larger error"
        )
    total_L = np.sum([image.wrong for image in images], axis=0)
    # A loss of 0 is exact, and the bound of the fewest images is the target: no rounding may come between.
    fits = (total_L + 1) <= target * (len(images) + 1) * (1 + 1e-12)
    threshold = int(np.argmax(fits))
    kept = float(np.mean([image.kept[threshold] for image in images]))
    return Threshold(confidence=threshold, target=target, images=len(images), kept=kept)


def _at_least(levels: NDArray[Any]) -> NDArray[Any]:
    """How many of `levels` reach each of 0..256."""
    return np.bincount(levels, minlength=LEVELS + 1)[::-1].cumsum()[::-1]
