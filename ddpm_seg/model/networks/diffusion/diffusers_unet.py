"""An unconditional UNet2DModel from Hugging Face diffusers, with the interface of this package's own UNet."""

# Shapes: x_t (N, 3, H, W) float32 in about [-1, 1]; t_N (N,) int64 or float timesteps of the schedule.

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn


class DiffusersUNet(nn.Module):
    """The network of a diffusers folder; it stops after the last block that is read."""

    def __init__(self, architecture: Mapping[str, Any]) -> None:
        super().__init__()
        self.network: Any = UNet2DModel(**architecture)

    def forward(self, x_t: Tensor, t_N: Tensor) -> Tensor:
        """The network's prediction for `x_t`: (N, 3 or 6, H, W) float32."""
        return self.network(x_t.to(self.network.dtype), t_N).sample.to(x_t.dtype)

    def activations(self, x_t: Tensor, t_N: Tensor, blocks: Collection[int]) -> list[Tensor]:
        """Outputs of the up-blocks `blocks`, in ascending order; computes nothing after the last one."""
        return self.decode(x_t, t_N, last=max(blocks), keep=frozenset(blocks))

    def decode(self, x_t: Tensor, t_N: Tensor, *, last: int, keep: frozenset[int]) -> list[Tensor]:
        """Does what UNet2DModel.forward does, up to up-block `last`."""
        unet = self.network
        sample = unet.conv_in((2 * x_t - 1.0 if unet.config.center_input_sample else x_t).to(unet.dtype))
        emb = unet.time_embedding(unet.time_proj(t_N).to(unet.dtype))
        skips: tuple[Tensor, ...] = (sample,)
        for block in unet.down_blocks:
            sample, outputs = block(hidden_states=sample, temb=emb)
            skips += outputs
        if unet.mid_block is not None:
            sample = unet.mid_block(sample, emb)
        kept = []
        for index, block in enumerate(unet.up_blocks[: last + 1]):
            count = len(block.resnets)
            sample, skips = block(sample, skips[-count:], emb), skips[:-count]
            if index in keep:
                kept.append(sample)
        return kept

    def cast_torso(self, dtype: torch.dtype) -> DiffusersUNet:
        """Stores the whole network in `dtype`, as diffusers does."""
        return self.to(dtype)
