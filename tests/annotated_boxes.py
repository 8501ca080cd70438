"""Writes a folder of annotated pictures whose classes any features can distinguish."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = 16


def annotate(folder: Path, count: int, *, first: int = 0) -> Path:
    """Dark pictures (background) with a bright box (skin) somewhere; numbers `first` and on, each always the same."""
    folder.mkdir(parents=True)
    for index in range(first, first + count):
        rng = np.random.default_rng(index)
        mask = np.zeros((SIZE, SIZE), dtype=np.uint8)
        top, left = rng.integers(1, 7, 2)
        mask[top : top + 8, left : left + 8] = 1
        image = np.where(mask[:, :, None] == 1, 220, 30) + rng.integers(-20, 20, (SIZE, SIZE, 3))
        Image.fromarray(image.astype(np.uint8)).save(folder / f"{index}.png")
        np.save(folder / f"{index}.npy", mask)
    return folder
