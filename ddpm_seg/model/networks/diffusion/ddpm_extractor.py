"""A resident DDPM as a source of features: noises images to a few steps, and reads the UNet's decoder at each."""

# Shapes: N images, S steps, C channels, h x w an activation's own resolution.

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_seg.model.device.copies import to_device
from ddpm_seg.model.diffusion import Diffusion, DiffusionConfig
from ddpm_seg.model.features import FeatureConfig, joined
from ddpm_seg.model.networks.diffusion.unet import UNet
from ddpm_seg.model.networks.pixel_values import to_network

if TYPE_CHECKING:
    from ddpm_seg.model.networks.diffusion.diffusers_unet import DiffusersUNet

    DecoderUNet = UNet | DiffusersUNet


class DDPMExtractor:
    """A resident UNet, and the noise (1, 3, S, S) shared by all images."""

    def __init__(self, unet: DecoderUNet, diffusion: DiffusionConfig, noise: Tensor) -> None:
        self.unet, self.diffusion, self.noise = unet, Diffusion(diffusion), noise

    def __call__(
        self, images: NDArray[np.uint8], features: FeatureConfig, *, micro_batch: int | None = None
    ) -> list[Tensor]:
        """Maps of `images` (N, S, S, 3) uint8; see `features.Extractor`."""
        x_0 = to_network(images, self.noise.device)
        return extract(self.unet, self.diffusion, x_0, self.noise, features, micro_batch=micro_batch)


def extract(
    unet: DecoderUNet,
    diffusion: Diffusion,
    x_0: Tensor,
    noise: Tensor,
    config: FeatureConfig,
    *,
    micro_batch: int | None = None,
) -> list[Tensor]:
    """Maps of images `x_0` (N, 3, H, W) in [-1, 1] under shared `noise` (1, 3, H, W).

    Returns one (N, C_i, h_i, w_i) tensor per step and block, steps outermost, blocks ascending: the published order,
    whatever the order of the blocks in `config` (the reference's hooks fire as the decoder runs). At most `micro_batch`
    of the N x S (image, step) pairs go through the network at once. With `noise_draws`, the maps are means over as many
    noises, `noise` being the first.
    """
    found = _under(unet, diffusion, x_0, noise, config, micro_batch)
    draws = config.noise_draws or 1
    for number in range(1, draws):
        maps = _under(unet, diffusion, x_0, _another(noise, number), config, micro_batch)
        found = [total + one for total, one in zip(found, maps, strict=True)]
    return found if draws == 1 else [total / draws for total in found]


def _another(noise: Tensor, number: int) -> Tensor:
    """A noise like the bundle's; the same for the same number, on every device."""
    generator = torch.Generator().manual_seed(number)
    return to_device(torch.randn(noise.shape, generator=generator), noise.device).to(noise.dtype)


def _under(
    unet: DecoderUNet,
    diffusion: Diffusion,
    x_0: Tensor,
    noise: Tensor,
    config: FeatureConfig,
    micro_batch: int | None,
) -> list[Tensor]:
    """`extract` under one noise."""
    n = len(x_0)
    # The schedule's own index, never rescaled: the published extractor does not apply rescale_timesteps (its
    # SpacedDiffusion leaves that to the sampler), and its classifiers were trained that way.
    t_SN = to_device(torch.tensor(config.steps), x_0.device).repeat_interleave(n)
    x_t = diffusion.q_sample(x_0.repeat(len(config.steps), 1, 1, 1), t_SN, noise)
    size = micro_batch or len(t_SN)
    per_block = joined(
        [
            unet.activations(x_t[start : start + size], t_SN[start : start + size], config.blocks)
            for start in range(0, len(t_SN), size)
        ]
    )
    return [maps[step * n : (step + 1) * n] for step in range(len(config.steps)) for maps in per_block]
