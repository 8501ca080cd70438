"""Temperatures that make mean confidence equal accuracy, for each class or for all together."""

# Shapes: P pixels, K classes.

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

LOWEST, HIGHEST = 0.1, 10.0
MIN_PIXELS = 500
"""Pixels predicted as a class that it needs to get its own temperature."""


def tempered(p_PK: NDArray[np.float32], temperature: float | NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities raised to the power 1 / temperature and normalised: softmax(log p / T). (P, K) or any (..., K);
    float64.

    `temperature` is a number, or one per pixel, (...). The order of the classes does not change, so neither do labels.
    """
    scaled = np.log(np.maximum(p_PK.astype(np.float64), 1e-12)) / np.asarray(temperature)[..., None]
    scaled = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return scaled / scaled.sum(axis=-1, keepdims=True)


def fit_temperatures(p_PK: NDArray[np.float32], target_P: NDArray[Any]) -> tuple[float, ...]:
    """A temperature for each of K classes, to be applied to pixels whose most probable class it is.

    Uses expectation consistency (Clarté et al., 2023): the mean confidence of these pixels must equal the share of them
    that is right. A class with fewer than `MIN_PIXELS` such pixels gets the temperature of all pixels together. Raises
    ValueError without pixels.
    """
    if p_PK.ndim != 2 or target_P.shape != p_PK.shape[:1] or not len(p_PK):
        raise ValueError(f"expected (P, K) probabilities of (P,) pixels, got {p_PK.shape} and {target_P.shape}")
    predicted_P = p_PK.argmax(axis=1)
    right_P = predicted_P == target_P
    overall = _consistent(p_PK, right_P)
    own = [predicted_P == class_id for class_id in range(p_PK.shape[1])]
    return tuple(_consistent(p_PK[is_], right_P[is_]) if is_.sum() >= MIN_PIXELS else overall for is_ in own)


def of_pixels(p_PK: NDArray[np.float32], temperatures: Sequence[float]) -> NDArray[Any]:
    """Calibrated probabilities: each pixel uses the temperature of its most probable class."""
    return tempered(p_PK, np.asarray(temperatures)[p_PK.argmax(axis=-1)])


def _consistent(p_PK: NDArray[np.float32], right_P: NDArray[Any]) -> float:
    """The temperature, within the allowed range, at which mean confidence equals the share of right pixels."""

    def excess(log_temperature: float) -> float:
        confidence = tempered(p_PK, np.exp(log_temperature)).max(axis=1).mean()
        return float(confidence - right_P.mean())

    low, high = np.log(LOWEST), np.log(HIGHEST)
    if excess(low) <= 0:  # confidence falls as the temperature rises
        return LOWEST
    if excess(high) >= 0:
        return HIGHEST
    return float(np.exp(brentq(excess, low, high, xtol=1e-3)))
