"""Which class needs annotations next: how much its IoU should rise if the annotated images are doubled.

The errors of a classifier mostly fall like a power of the number of training examples (Cortes et al., 1993; Hestness et
al., 2017): 1 - IoU = a n^-b. The exponent b of each class comes from a learning curve.
"""

# Shapes: R splits, N numbers of images (ascending).

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_ERROR = 1e-3
"""An error has a logarithm only above zero."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedGain:
    """What doubling the annotated images should give for one class."""

    class_name: str
    iou: float
    """Mean over the splits at the largest number of images, in [0, 1]."""
    gain: float
    """Expected rise of the IoU, mean over the splits."""
    deviation: float | None
    """Sample standard deviation of the gains that single splits expect; None for one split."""
    pixels: int
    """Pixels of the class in the annotated images."""
    images: int
    """Annotated images that show it."""


def gain_of_doubling(shots: Sequence[int], ious_RN: NDArray[np.float64]) -> NDArray[np.float64]:
    """The expected rise (R,) of each split's IoU from the last number of images to twice as many.

    Fits the line log(1 - IoU) = log a - b log n by least squares, and starts from the last IoU itself. A curve that
    falls is taken as level: more annotations do no harm. Raises ValueError for fewer than two numbers of images.
    """
    if len(shots) < 2:
        raise ValueError(f"a learning curve needs at least two numbers of images, got {tuple(shots)}")
    log_n = np.log(np.asarray(shots, np.float64))
    log_error_RN = np.log(np.clip(1 - ious_RN, LEAST_ERROR, None))
    exponent_R = -np.polyfit(log_n, log_error_RN.T, 1)[0]
    return (1 - ious_RN[:, -1]) * (1 - 2 ** -np.clip(exponent_R, 0, None))


def expected_gain(
    class_name: str, shots: Sequence[int], ious_RN: NDArray[np.float64], *, pixels: int, images: int
) -> ExpectedGain:
    """The gain of a class whose IoU is `ious_RN` after training on `shots` images."""
    gains = gain_of_doubling(shots, ious_RN).tolist()
    return ExpectedGain(
        class_name=class_name,
        iou=float(ious_RN[:, -1].mean()),
        gain=statistics.fmean(gains),
        deviation=statistics.stdev(gains) if len(gains) > 1 else None,
        pixels=pixels,
        images=images,
    )


def most_first(gains: Sequence[ExpectedGain]) -> list[ExpectedGain]:
    """Those with the largest expected gain first."""
    return sorted(gains, key=lambda one: -one.gain)


def sentence(gains: Sequence[ExpectedGain], shots: int) -> str:
    """Which class to annotate next, in plain words, with the classes that cannot be told from it."""
    first, *others = most_first(gains)
    if first.gain < 0.005:
        return f"More annotations should hardly help: no class is expected to gain 0.005 from {2 * shots} images."
    text = (
        f"Annotate images that show {first.class_name} next: with {2 * shots} images in place of {shots}, its IoU is "
        f"expected to rise from {first.iou:.2f} by {_with_deviation(first)}."
    )
    if first.deviation is None:
        return f"{text} But a single split says little: give --splits 5."
    near = [one.class_name for one in others if one.gain > 0.005 and one.gain > first.gain - _spread(first, one)]
    if near:
        text += f" {_listed(near)} may need them as much: the splits do not agree well enough to tell."
    return text


def _spread(one: ExpectedGain, other: ExpectedGain) -> float:
    """Deviation of the difference of two expected gains."""
    return float(np.hypot(one.deviation or 0, other.deviation or 0))


def _with_deviation(one: ExpectedGain) -> str:
    return f"{one.gain:.2f}" if one.deviation is None else f"{one.gain:.2f} ± {one.deviation:.2f}"


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    text = f"{', '.join(most)} and {last}" if most else last
    return text[0].upper() + text[1:]
