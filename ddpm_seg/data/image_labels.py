"""The final labels of one image, at its own size: the mask and its statistics."""

# Shapes: H' x W' is the canvas, H x W the image's own size.

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ddpm_seg.data.canvas import Placement, restore_mask
from ddpm_seg.data.statistics import ImageStatistics, image_statistics


class NetworkAnswer(Protocol):
    """A network's labels for an image on its canvas; `model.pixel_labels.PixelLabels` is one."""

    @property
    def label(self) -> np.ndarray: ...  # (H', W') uint8
    @property
    def uncertainty(self) -> np.ndarray: ...  # (H', W') float32, nats
    @property
    def confidence(self) -> np.ndarray: ...  # (H', W') float32 in [0, 1]
    @property
    def finite(self) -> bool: ...


class NotFiniteError(ValueError):
    """The network's output overflowed, so its labels mean nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLabels:
    """The labels of one image."""

    mask: np.ndarray
    """(H, W) uint8 class ids."""
    statistics: ImageStatistics


def image_labels(answer: NetworkAnswer, placement: Placement, class_names: tuple[str, ...]) -> ImageLabels:
    """The mask at the image's own size, and its statistics. Raises NotFiniteError; the caller adds what to do about
    it."""
    if not answer.finite:
        raise NotFiniteError("the network's output is not finite")
    mask = restore_mask(answer.label, placement)
    statistics = image_statistics(answer.label, answer.uncertainty, answer.confidence, mask, placement, class_names)
    return ImageLabels(mask=mask, statistics=statistics)
