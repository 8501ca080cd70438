"""The loss on images that a network is not trained on: it says when a small set has been learned by heart."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm_seg.model.device.copies import to_device
from ddpm_seg.training.network.objective import Objective
from ddpm_seg.training.unfinished import OtherTrainingError

EVERY = 250
"""Iterations between two looks."""
PATIENCE = 10
"""Looks in a row without a lower loss, after which the training stops."""
DRAWS, BATCH = 8, 32
"""How often every image is drawn for a look, with other noise, and how many draws go through the network at once."""


class HeldOut:
    """The lowest loss of the averaged weights on held-out images, and those weights.

    Every look draws the same noise, so that losses differ by the weights alone.
    """

    def __init__(self, objective: Objective, images: NDArray[np.uint8], seed: int, device: str) -> None:
        rng = np.random.default_rng((seed, 2**32))  # no iteration's generator
        repeated = np.repeat(images, DRAWS, axis=0)
        self._batches = [objective.draw(repeated[i : i + BATCH], rng) for i in range(0, len(repeated), BATCH)]
        self._loss: Callable[..., Tensor] = objective.loss
        self._device = device
        self._digest = hashlib.sha256(images.tobytes()).hexdigest()
        self.best, self.looks_since = math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def due(self, iteration: int) -> bool:
        """Whether to look after this many iterations."""
        return iteration % EVERY == 0

    def look(self, average: nn.Module) -> float:
        """The loss of the averaged weights; keeps them if it is the lowest."""
        loss = _agreed(self._mean_loss(average), self._device)
        self.looks_since += 1
        if loss < self.best:
            self.best, self.looks_since = loss, 0
            self.weights = {key: value.detach().cpu().clone() for key, value in average.state_dict().items()}
        return loss

    @property
    def over(self) -> bool:
        """Whether the loss has not fallen for so long that going on is of no use."""
        return self.looks_since >= PATIENCE

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "looks_since": self.looks_since, "weights": self.weights, "digest": self._digest}

    def resume(self, state: Mapping[str, Any], uri: str) -> None:
        """Restores the `state` in the file at `uri`. Raises OtherTrainingError if other images were held out: some of
        these would have been trained on."""
        if state.get("digest", self._digest) != self._digest:  # earlier releases saved none
            raise OtherTrainingError(
                f"the interrupted training at {uri} held out other images, so those at --images have changed, or some "
                "cannot be read now; put them back, or delete it to start anew"
            )
        self.best, self.looks_since, self.weights = state["best"], state["looks_since"], state["weights"]

    @torch.inference_mode()
    def _mean_loss(self, average: nn.Module) -> float:
        training, total, count = average.training, 0.0, 0
        average.eval()
        for batch in self._batches:
            parts = [to_device(tensor, self._device) for tensor in batch]
            total += len(parts[0]) * float(self._loss(average, *parts))
            count += len(parts[0])
        average.train(training)
        return total / count


def _agreed(loss: float, device: str) -> float:
    """The first worker's loss: all must stop at the same iteration, and not every device rounds alike."""
    if not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return loss
    found = torch.tensor([loss], dtype=torch.float64, device=device)
    torch.distributed.broadcast(found, 0)
    return float(found)
