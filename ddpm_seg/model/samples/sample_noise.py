"""The noise that samples are drawn from: it depends only on a sample's (seed, number)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ddpm_seg.model.device.copies import to_device


def sample_random(seed: int, number: int) -> np.random.Generator:
    """All the randomness of sample `number` of `seed`."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))


class SampleNoise:
    """Draws standard normal noise (N, 3, S, S) float32 for the samples `numbers`, a new one at each call.

    It is made on the CPU, so that a sample does not depend on its batch, device or neighbours. Uses NumPy, which seeds
    from any number of bits; torch's CPU generator uses 32, so that among 50,000 samples some would share a seed.
    """

    def __init__(self, seed: int, numbers: Sequence[int], size: int, device: torch.device | str = "cpu") -> None:
        self.generators = [sample_random(seed, number) for number in numbers]
        self.shape, self.device = (3, size, size), device

    def __call__(self) -> Tensor:
        drawn = [generator.standard_normal(self.shape, dtype=np.float32) for generator in self.generators]
        return to_device(torch.from_numpy(np.stack(drawn)), self.device)
