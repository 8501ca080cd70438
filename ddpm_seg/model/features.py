"""Which activations describe a pixel (DDPM-Seg section 3), each at its own resolution: nothing is upsampled here."""

# Shapes: N images, S steps, B decoder blocks, C channels, h x w an activation's own resolution.

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ddpm_seg.model.device_copies import to_device
from ddpm_seg.model.diffusion import Diffusion, DiffusionConfig
from ddpm_seg.model.unet import UNet, UNetConfig, block_channels, block_strides


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureConfig:
    """Timesteps to noise the image to, decoder blocks to read there, and how their maps are brought to pixels."""

    steps: tuple[int, ...]
    blocks: tuple[int, ...]
    upsample_mode: Literal["bilinear", "nearest"] = "bilinear"

    def __post_init__(self) -> None:
        if self.upsample_mode not in ("bilinear", "nearest"):
            raise ValueError(f"upsample_mode must be 'bilinear' or 'nearest', got {self.upsample_mode!r}")
        if not self.steps or not self.blocks:
            raise ValueError(f"features need at least one step and one block, got {self.steps} and {self.blocks}")

    def check(self, unet: UNetConfig, diffusion: DiffusionConfig) -> None:
        """Raises ValueError where a step or a block does not exist in this network."""
        if min(self.steps) < 0 or max(self.steps) >= diffusion.steps:
            raise ValueError(f"steps must lie in 0..{diffusion.steps - 1}, got {self.steps}")
        if min(self.blocks) < 0 or max(self.blocks) >= unet.num_output_blocks:
            raise ValueError(f"blocks must lie in 0..{unet.num_output_blocks - 1}, got {self.blocks}")

    def channels(self, unet: UNetConfig) -> list[int]:
        """Channels of every map that `extract` returns, in its order; their sum is the published `dim[2]`."""
        return [block_channels(unet)[block] for _ in self.steps for block in sorted(set(self.blocks))]

    def strides(self, unet: UNetConfig) -> list[int]:
        """Image pixels per map pixel of every map that `extract` returns, in its order."""
        return [block_strides(unet)[block] for _ in self.steps for block in sorted(set(self.blocks))]


def extract(
    unet: UNet,
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
    batches = [
        unet.activations(x_t[start : start + size], t_SN[start : start + size], config.blocks)
        for start in range(0, len(t_SN), size)
    ]
    per_block = [torch.cat(maps) if len(maps) > 1 else maps[0] for maps in zip(*batches, strict=True)]
    return [maps[step * n : (step + 1) * n] for step in range(len(config.steps)) for maps in per_block]
