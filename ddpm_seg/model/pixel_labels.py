"""The model's labels for one image. Imports no torch, so that processes that only read and write do not need it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelLabels:
    """Labels of one image at the network's resolution: S x S pixels, or those of a canvas of several such squares."""

    label: NDArray[np.uint8]
    """(S, S) uint8 class ids."""
    uncertainty: NDArray[np.float32]
    """(S, S) float32, in nats: Jensen-Shannon divergence between the members; for a student, the entropy of its
    softmax."""
    confidence: NDArray[np.float32]
    """(S, S) float32 in [0, 1]: softmax of the label, averaged over the members."""

    top_ids: NDArray[np.uint8] | None = None
    """(T, S, S) uint8: the T = min(3, K) classes with the largest mean softmax, most probable first; None if not asked
    for. (T, 2 S, 2 S) if the mean was taken over shifts of half a pixel."""
    top_probabilities: NDArray[np.uint8] | None = None
    """uint8, like `top_ids`: their mean softmax, times 255."""

    domain_distance: NDArray[np.float32] | None = None
    """() float32: how far the image lies from the training images (`model.domain`); None if those are not known."""

    @property
    def finite(self) -> bool:
        """Whether the network's output stayed finite. In float16 it can overflow, and then the labels mean nothing."""
        return bool(np.isfinite(self.uncertainty).all())
