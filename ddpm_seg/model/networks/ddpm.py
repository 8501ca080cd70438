"""A DDPM as a source of features: the image is noised to a few steps, and the UNet's decoder is read there."""

# Shapes: N images, S steps, C channels, h x w an activation's own resolution.

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ddpm_seg.model.device.copies import to_device
from ddpm_seg.model.diffusion import Diffusion, DiffusionConfig
from ddpm_seg.model.features import FeatureConfig, joined
from ddpm_seg.model.networks.diffusers_config import DiffusersUNetConfig
from ddpm_seg.model.networks.pixel_values import to_network
from ddpm_seg.model.networks.unet import UNet, UNetConfig

# The published choice for 256 x 256 networks: of 1000 timesteps, and of 18 decoder blocks.
PUBLISHED_STEPS, PUBLISHED_TIMESTEPS = (50, 150, 250), 1000
PUBLISHED_BLOCKS, PUBLISHED_DEPTH = (5, 6, 7, 8, 12), 18


if TYPE_CHECKING:
    from ddpm_seg.model.networks.diffusers_unet import DiffusersUNet

    DecoderUNet = UNet | DiffusersUNet


@dataclass(frozen=True, kw_only=True, slots=True)
class DDPMConfig:
    """The UNet's architecture, and the noise schedule that it was trained with."""

    kind: ClassVar[str] = "unet"

    unet: UNetConfig | DiffusersUNetConfig
    diffusion: DiffusionConfig

    @property
    def title(self) -> str:
        return "DDPM"

    @property
    def image_size(self) -> int:
        return self.unet.image_size

    @property
    def timesteps(self) -> int:
        return self.diffusion.steps

    @property
    def block_channels(self) -> list[int]:
        """Of the decoder's blocks, the deepest first."""
        return self.unet.block_channels

    @property
    def block_strides(self) -> list[int]:
        return self.unet.block_strides

    @property
    def peak_values(self) -> int:
        """About eight feature maps of the first level."""
        return 8 * self.unet.base_channels * self.image_size**2

    def published_features(self) -> FeatureConfig:
        """The published steps and blocks, scaled to this schedule and depth."""
        depth = len(self.block_channels)
        return FeatureConfig(
            steps=tuple(step * self.timesteps // PUBLISHED_TIMESTEPS for step in PUBLISHED_STEPS),
            blocks=tuple(sorted({block * depth // PUBLISHED_DEPTH for block in PUBLISHED_BLOCKS})),
        )

    def build(self) -> nn.Module:
        return self.unet.build()


class DDPMExtractor:
    """A resident UNet, and the noise (1, 3, S, S) that every image shares."""

    def __init__(self, unet: DecoderUNet, diffusion: DiffusionConfig, noise: Tensor) -> None:
        self.unet, self.diffusion, self.noise = unet, Diffusion(diffusion), noise

    def __call__(self, images: np.ndarray, features: FeatureConfig, *, micro_batch: int | None = None) -> list[Tensor]:
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

    Returns one (N, C_i, h_i, w_i) tensor a step and block, steps outermost, blocks ascending: the published order,
    whatever the order in which blocks are named (the reference's hooks fire as the decoder runs). At most
    `micro_batch` of the N x S (image, step) pairs go through the network at once.
    """
    n = len(x_0)
    # The schedule's own index, never rescaled: the published extractor does not apply rescale_timesteps (its
    # SpacedDiffusion leaves that to the sampler), and its classifiers were trained so.
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
