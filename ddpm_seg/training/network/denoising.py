"""The training objective of a DDPM: Ho et al. (2020), algorithm 1, with min-SNR weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.device.copies import to_device
from ddpm_seg.model.diffusion import Diffusion, DiffusionConfig
from ddpm_seg.model.networks.diffusion.ddpm import DDPMConfig
from ddpm_seg.model.networks.diffusion.unet import UNet, UNetConfig
from ddpm_seg.model.networks.pixel_values import to_network
from ddpm_seg.training.network.start import Start

MIN_SNR_GAMMA = 5.0


class Denoising:
    """Predicts the noise that was added to an image at a random timestep; an `Objective`."""

    adamw: Mapping[str, Any] = {"weight_decay": 1e-4}
    draws_images = True

    def __init__(self, unet: UNetConfig, diffusion: DiffusionConfig, start: Start | None = None) -> None:
        """The network begins with random weights, or with those of `start`."""
        self.unet, self.diffusion, self.start = unet, Diffusion(diffusion), start

    @property
    def image_size(self) -> int:
        return self.unet.image_size

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        start = {"start": {"model_id": self.start.model_id}} if self.start else {}
        return {"unet": asdict(self.unet), "diffusion": asdict(self.diffusion.config), **start}

    def build(self) -> nn.Module:
        network = UNet(self.unet)
        if self.start:
            network.load_state_dict(self.start.weights())
        return network

    def draw(self, images: NDArray[np.uint8], rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """x_0 (B, 3, S, S) float32 in [-1, 1], timesteps (B,) int64, and standard normal noise of the shape of x_0."""
        t_N = torch.from_numpy(rng.integers(len(self.diffusion.timesteps), size=len(images)))
        x_0 = to_network(images, "cpu")
        return x_0, t_N, torch.from_numpy(rng.standard_normal(x_0.shape, dtype=np.float32))

    def loss(self, network: Callable[..., Tensor], *batch: Tensor) -> Tensor:
        """Mean squared error of the predicted noise, weighted by min(SNR, 5) / SNR (Hang et al., 2023, equation 7)."""
        x_0, t_N, noise = batch
        prediction = network(self.diffusion.q_sample(x_0, t_N, noise), t_N)[:, :3]
        error_N = (prediction - noise).square().mean(dim=(1, 2, 3))
        alpha_bar = to_device(torch.from_numpy(self.diffusion.alpha_bar).float(), x_0.device)[t_N]
        snr_N = alpha_bar / (1 - alpha_bar)
        return (error_N * snr_N.clamp_max(MIN_SNR_GAMMA) / snr_N).mean()

    def bundle(self, weights: Mapping[str, Tensor]) -> Bundle:
        """The network and its shared noise (torch's CPU generator, seed 0)."""
        size = self.unet.image_size
        return Bundle(
            network=DDPMConfig(unet=self.unet, diffusion=self.diffusion.config),
            weights=weights,
            provenance={"started_from": self.start.model_id} if self.start else {},
            noise=torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(0)),
        )
