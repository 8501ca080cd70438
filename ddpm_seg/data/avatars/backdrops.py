"""Backgrounds and lighting for rendered pictures: gradients, patterns, exposure."""

from __future__ import annotations

import colorsys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Rng = np.random.Generator
Colour = tuple[float, float, float]  # red, green, blue in [0, 1]


def any_colour(rng: Rng) -> Colour:
    return colorsys.hsv_to_rgb(rng.uniform(0, 1), rng.uniform(0, 0.9) ** 0.8, rng.uniform(0.25, 1))


def light(rng: Rng, image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Adds a soft light from one side, exposure and gamma; values stay in [0, 1]."""
    slope = _ramp(rng, len(image)) * rng.uniform(0, 0.2)
    gain = (1 + slope[..., None]) * rng.uniform(0.92, 1.06)
    return np.clip(image * gain, 0, 1) ** rng.uniform(0.85, 1.2)


def _ramp(rng: Rng, size: int) -> NDArray[np.float64]:
    """(size, size), from -1 to 1 across the frame in a random direction."""
    angle = rng.uniform(0, 2 * np.pi)
    axis = np.linspace(-1, 1, size)
    along = axis[None, :] * np.cos(angle) + axis[:, None] * np.sin(angle)
    return along / np.abs(along).max()


def background(rng: Rng, size: int) -> NDArray[np.float64]:
    """(size, size, 3) in [0, 1]: two colours mixed by a random pattern."""
    patterns: list[Callable[[Rng, int], NDArray[np.float64]]] = [_plain, _ramp, _ramp, _glow, _stripes, _dots, _clouds]
    pattern = patterns[int(rng.integers(len(patterns)))]
    first = np.array(any_colour(rng))
    second = np.array(any_colour(rng))
    if pattern in (_stripes, _dots):  # sharp patterns in two unrelated colours would drown the face
        second = first + (second - first) * rng.uniform(0.2, 0.6)
    weight = (pattern(rng, size)[..., None] + 1) / 2
    return np.clip(first * weight + second * (1 - weight), 0, 1)


def _plain(rng: Rng, size: int) -> NDArray[np.float64]:
    return np.ones((size, size))


def _glow(rng: Rng, size: int) -> NDArray[np.float64]:
    axis = np.linspace(-1, 1, size)
    x, y = rng.uniform(-0.6, 0.6, 2)
    return 1 - np.minimum(np.hypot(axis[None, :] - x, axis[:, None] - y), 2)


def _stripes(rng: Rng, size: int) -> NDArray[np.float64]:
    return np.where(np.sin(_ramp(rng, size) * rng.uniform(10, 30)) > rng.uniform(-0.5, 0.5), 1.0, -1.0)


def _dots(rng: Rng, size: int) -> NDArray[np.float64]:
    grid = rng.uniform(9, 20)
    axis = np.linspace(-1, 1, size) * grid + rng.uniform(0, 2 * np.pi)
    return np.where(np.sin(axis)[None, :] * np.sin(axis)[:, None] > rng.uniform(0.3, 0.6), 1.0, -1.0)


def _clouds(rng: Rng, size: int) -> NDArray[np.float64]:
    cells = int(rng.integers(3, 12))
    coarse = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.clip(np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC), np.float64), -1, 1)
