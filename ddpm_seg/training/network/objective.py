"""What a network learns: the interface of a training objective."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm_seg.model.bundle.ensemble_bundle import Bundle


class Objective(Protocol):
    """A network to train, and its loss."""

    adamw: Mapping[str, Any]
    """AdamW's arguments besides the learning rate."""
    draws_images: bool
    """Whether the network draws images, which then look like those that it was trained on last."""

    @property
    def image_size(self) -> int:
        """Side S of the network's input."""

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        """All settings of the network and its loss, by section."""

    def build(self) -> nn.Module:
        """Builds the module to train; its initial weights come from torch's global generator."""

    def draw(self, images: NDArray[np.uint8], rng: np.random.Generator) -> tuple[Tensor, ...]:
        """A random batch from `images` (B, S, S, 3) uint8, as tensors whose first axis is B."""

    def loss(self, network: Callable[..., Tensor], *batch: Tensor) -> Tensor:
        """Mean loss over a batch from `draw`, or over a worker's part of it."""

    def bundle(self, weights: Mapping[str, Tensor]) -> Bundle:
        """The bundle to save, made of the trained weights."""
