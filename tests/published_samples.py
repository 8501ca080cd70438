"""Writes files of published samples: pictures whose classes any network can distinguish."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

LATENTS = 8


def published(count: int, size: int = 16, *, classes: int = 3, seed: int = 0) -> list[NDArray[np.generic]]:
    """Images, labels, latents and uncertainties, in the published order. Each image has a bright box on dark ground."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((count, size, size), np.uint8)
    for number in range(count):
        top, left = rng.integers(0, size // 2, 2)
        labels[number, top : top + size // 2, left : left + size // 2] = 1 + number % (classes - 1)
    images = rng.integers(0, 60, (count, size, size, 3)) + (labels[..., None] > 0) * (60 + 40 * labels[..., None])
    latents = rng.standard_normal((count, LATENTS)).astype(np.float32)
    return [images.astype(np.uint8), labels, latents, rng.permutation(count).astype(np.float32) / 1000]


def write(path: Path, *arrays: NDArray[np.generic], compressed: bool = False) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    (np.savez_compressed if compressed else np.savez)(path, *arrays)
    return str(path)
