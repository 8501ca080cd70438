"""Draws images with a resident DDPM: noise in, samples out."""

# Shapes: N samples of S x S pixels.

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ddpm_seg.model.device.fitting_batch import FittingBatch
from ddpm_seg.model.diffusion import Diffusion
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.diffusion.ddpm_extractor import DDPMExtractor
from ddpm_seg.model.networks.pixel_values import from_network
from ddpm_seg.model.samples.drawing import Drawn, in_full_batches
from ddpm_seg.model.samples.sample_noise import SampleNoise
from ddpm_seg.model.samples.samplers import sample_ancestral, sample_ddim, sample_dpm_solver
from ddpm_seg.model.samples.sampling import SamplingConfig


class Generator:
    """Draws samples with a resident UNet, always `batch_size` at a time. If a GPU has too little memory, that number is
    halved from then on. `draw` gives no features: they are read from the finished image."""

    def __init__(self, extractor: DDPMExtractor, config: SamplingConfig, *, batch_size: int) -> None:
        self.extractor, self.unet, self.config = extractor, extractor.unet, config
        self.device, self.size = extractor.noise.device, extractor.noise.shape[-1]
        self.batch = FittingBatch(batch_size, self.device, what=f"{self.size} x {self.size} sample")
        whole = extractor.diffusion.config
        self.diffusion = Diffusion(whole, config.timesteps(whole))

    @property
    def batch_size(self) -> int:
        return self.batch.size

    def draw(self, seed: int, numbers: Sequence[int], features: FeatureConfig | None = None) -> Iterator[Drawn]:
        """Yields the samples `numbers` of `seed`, without maps; see `drawing.Drawer`."""
        return in_full_batches(numbers, self.batch, lambda full: self._batch(seed, full))

    @torch.inference_mode()
    def _batch(self, seed: int, numbers: Sequence[int]) -> list[Drawn]:
        noise = SampleNoise(seed, numbers, self.size, self.device)
        x_0 = self._run(noise(), noise)
        finite = x_0.isfinite().flatten(1).all(dim=1).tolist()
        images = zip(from_network(x_0), finite, strict=True)
        return [Drawn(image=image if fine else None, maps=None) for image, fine in images]

    def _run(self, x_T: Tensor, noise: SampleNoise) -> Tensor:
        if self.config.sampler == "ddpm":
            return sample_ancestral(self.unet, self.diffusion, x_T, noise)
        if self.config.sampler == "ddim":
            return sample_ddim(self.unet, self.diffusion, x_T, eta=self.config.eta, noise=noise)
        return sample_dpm_solver(self.unet, self.diffusion, x_T)


def default_batch_size(base_channels: int, size: int, device: torch.device) -> int:
    """Samples per batch: few on a CPU, which they keep busy; on a GPU as many as should fit into its memory."""
    if device.type == "cpu":
        return 8
    # At the peak about twelve maps of the first level are in memory: the skips of all levels, and a block's own.
    bytes_per_sample = 12 * base_channels * size**2 * 4
    memory = torch.cuda.get_device_properties(device).total_memory
    return 2 ** int(math.log2(max(1, min(memory // 2 // bytes_per_sample, 256))))
