"""The most probable classes of each pixel, which is all that the mask's writer gets from the model."""

# Shapes: K classes, T of them kept, S x S the network's square.

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ONE = 255
"""Value that represents a probability of 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TopClasses:
    """The T = min(3, K) most probable classes of each pixel, most probable first: 6 bytes per pixel."""

    ids: NDArray[np.uint8]
    """(T, S, S) uint8."""
    probabilities: NDArray[np.uint8]
    """(T, S, S) uint8, times 255."""

    def __post_init__(self) -> None:
        if self.ids.ndim != 3 or self.ids.shape != self.probabilities.shape or not len(self.ids):
            raise ValueError(
                f"ids and probabilities must be one (T, S, S), got {self.ids.shape} and {self.probabilities.shape}"
            )
        if not self.ids.dtype == self.probabilities.dtype == np.uint8:
            raise ValueError(f"expected uint8, got {self.ids.dtype} and {self.probabilities.dtype}")

    def coarser(self, times: int) -> TopClasses:
        """The top classes of the means over blocks of `times` x `times` pixels."""
        if times == 1:
            return self
        count, height, width = self.ids.shape
        classes = np.unique(self.ids[self.probabilities > 0])
        classes = np.union1d(classes, np.arange(count, dtype=np.uint8))  # at least as many as are kept
        blocks = (count, height // times, times, width // times, times)
        ids, probabilities = self.ids.reshape(blocks), self.probabilities.reshape(blocks)
        means = np.stack(
            [np.where(ids == one, probabilities, np.uint8(0)).sum(axis=(0, 2, 4)) / times**2 for one in classes]
        )
        best = np.argsort(-means, axis=0, kind="stable")[:count]
        return TopClasses(
            ids=classes[best], probabilities=np.rint(np.take_along_axis(means, best, axis=0)).astype(np.uint8)
        )
