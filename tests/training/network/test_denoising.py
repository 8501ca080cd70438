"""What a DDPM is trained on: its loss, and that it falls."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ddpm_seg.cluster.training_workers import Worker
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.training.network.denoising import Denoising
from ddpm_seg.training.network.network_training import NetworkTraining, draw_images
from ddpm_seg.training.optimization import Optimization

UNET = UNetConfig(image_size=8, num_channels=32, num_res_blocks=1, channel_mult=(1, 1), attention_resolutions=(4,))
DENOISING = Denoising(UNET, DiffusionConfig(steps=50))


def _images(count: int = 12) -> np.ndarray:
    """Half bright, half dark squares: something that can be learned."""
    images = np.full((count, 8, 8, 3), 40, dtype=np.uint8)
    images[::2, 2:6, 2:6] = 220
    return images


def test_the_loss_of_an_all_zero_network_is_the_weight_of_the_noise() -> None:
    x_0, t_N, noise = DENOISING.draw(*draw_images(_images(), Optimization(batch_size=16), 0))
    alpha_bar = DENOISING.diffusion.alpha_bar[t_N]
    snr = alpha_bar / (1 - alpha_bar)
    expected = (noise.square().mean(dim=(1, 2, 3)).numpy() * np.minimum(snr, 5) / snr).mean()
    loss = DENOISING.loss(lambda x_t, t: torch.zeros_like(x_t), x_0, t_N, noise)  # type: ignore[arg-type]
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_training_lowers_the_loss_on_noise_it_has_not_met() -> None:
    options = Optimization(iterations=150, batch_size=4, learning_rate=4e-3)
    training = NetworkTraining(DENOISING, options, Worker())
    unseen = DENOISING.draw(*draw_images(_images(), Optimization(batch_size=64), 10**6))

    @torch.no_grad()
    def loss() -> float:
        return float(DENOISING.loss(training.network.eval(), *unseen))

    before = loss()
    training.network.train()
    for _ in range(150):
        training.step(_images())
    assert loss() < 0.6 * before
