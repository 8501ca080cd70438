"""Nearest training images, to see whether a generated image is a copy of one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BLOCK = 1000  # training images compared at once: 50 MB at 64 x 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbours:
    """The K nearest training images of each of Q queries, nearest first."""

    index: NDArray[np.int64]
    """int64 (Q, K)."""
    distance: NDArray[np.float32]
    """float32 (Q, K): root mean square difference over pixels and channels, in 0..255."""


def nearest_neighbours(queries: NDArray[np.uint8], training: NDArray[np.uint8], k: int) -> Neighbours:
    """Compares `queries` (Q, H, W, 3) uint8 with all of `training` (N, H, W, 3) uint8 and their mirror images, since
    networks are trained on both."""
    if queries.shape[1:] != training.shape[1:]:
        raise ValueError(f"queries have shape {queries.shape[1:]}, training images {training.shape[1:]}")
    squared = np.minimum(*(_squared_distances(images, training) for images in (queries, queries[:, :, ::-1])))
    index = np.argsort(squared, axis=1, kind="stable")[:, :k]
    return Neighbours(index=index, distance=np.sqrt(np.take_along_axis(squared, index, axis=1) / queries[0].size))


def _squared_distances(queries: NDArray[np.uint8], training: NDArray[np.uint8]) -> NDArray[np.float32]:
    """float32 (Q, N), as |a|^2 - 2 ab + |b|^2, centred to save float32's digits."""
    a = queries.reshape(len(queries), -1).astype(np.float32) - 127.5
    blocks = []
    for start in range(0, len(training), BLOCK):
        b = training[start : start + BLOCK].reshape(-1, a.shape[1]).astype(np.float32) - 127.5
        blocks.append((a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1))
    return np.maximum(np.concatenate(blocks, axis=1), 0)
