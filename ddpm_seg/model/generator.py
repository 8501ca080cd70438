"""The resident network as a source of images: noise in, samples out."""

# Shapes: N samples of S x S pixels.

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ddpm_seg.model.device.fitting_batch import FittingBatch
from ddpm_seg.model.diffusion import Diffusion
from ddpm_seg.model.networks.ddpm import DDPMConfig
from ddpm_seg.model.networks.pixel_values import from_network
from ddpm_seg.model.sample_noise import SampleNoise
from ddpm_seg.model.samplers import sample_ancestral, sample_ddim, sample_dpm_solver
from ddpm_seg.model.sampling import SamplingConfig


class Generator:
    """Draws samples with a resident UNet, always `batch_size` at a time, so that a sample's bytes do not depend on how
    many are asked for. Where a GPU's memory proves too small, that number is halved, for good."""

    def __init__(
        self,
        unet: nn.Module,
        network: DDPMConfig,
        config: SamplingConfig,
        *,
        device: torch.device,
        batch_size: int,
    ) -> None:
        self.unet, self.config, self.device, self.size = unet, config, device, network.image_size
        self.batch = FittingBatch(batch_size, device, what=f"{self.size} x {self.size} sample")
        self.diffusion = Diffusion(network.diffusion, config.timesteps(network.diffusion))

    def sample(self, seed: int, numbers: Sequence[int]) -> list[np.ndarray | None]:
        """Samples `numbers` of `seed`: (S, S, 3) uint8 RGB each, which depends on (seed, number) alone; None where the
        network's output is not finite.

        Raises torch.OutOfMemoryError where a GPU has no memory even for one at a time.
        """

        def images_from(first: int, size: int) -> list[np.ndarray | None]:
            wanted = list(numbers[first : first + size])
            return self._batch(seed, wanted + wanted[-1:] * (size - len(wanted)))[: len(wanted)]

        return list(self.batch.run(len(numbers), images_from))

    @torch.inference_mode()
    def _batch(self, seed: int, numbers: Sequence[int]) -> list[np.ndarray | None]:
        noise = SampleNoise(seed, numbers, self.size, self.device)
        x_0 = self._run(noise(), noise)
        finite = x_0.isfinite().flatten(1).all(dim=1).tolist()
        return [image if fine else None for image, fine in zip(from_network(x_0), finite, strict=True)]

    def _run(self, x_T: Tensor, noise: SampleNoise) -> Tensor:
        if self.config.sampler == "ddpm":
            return sample_ancestral(self.unet, self.diffusion, x_T, noise)
        if self.config.sampler == "ddim":
            return sample_ddim(self.unet, self.diffusion, x_T, eta=self.config.eta, noise=noise)
        return sample_dpm_solver(self.unet, self.diffusion, x_T)


def default_batch_size(network: DDPMConfig, device: torch.device) -> int:
    """Samples at once: few on a CPU, which they keep busy; on a GPU as many as its whole memory may hold."""
    if device.type == "cpu":
        return 8
    # About twelve feature maps of the first level are alive at the peak: the skips of all levels, and a block's own.
    bytes_per_sample = 12 * network.unet.base_channels * network.image_size**2 * 4
    memory = torch.cuda.get_device_properties(device).total_memory
    return 2 ** int(math.log2(max(1, min(memory // 2 // bytes_per_sample, 256))))
