"""The noise that samples are made of: each sample's from (seed, number) alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ddpm_seg.model.device.copies import to_device


class SampleNoise:
    """Draws standard normal noise (N, 3, S, S) float32 for samples `numbers`, time after time.

    Made on the CPU, so that a sample is the same whatever its batch, device and neighbours. NumPy seeds from any number
    of bits; torch's CPU generator takes 32, of which 50,000 samples would share some.
    """

    def __init__(self, seed: int, numbers: Sequence[int], size: int, device: torch.device | str = "cpu") -> None:
        self.generators = [
            np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,))) for number in numbers
        ]
        self.shape, self.device = (3, size, size), device

    def __call__(self) -> Tensor:
        drawn = [generator.standard_normal(self.shape, dtype=np.float32) for generator in self.generators]
        return to_device(torch.from_numpy(np.stack(drawn)), self.device)
