"""The guided-diffusion UNet (Dhariwal & Nichol, 2021), which stops after the last decoder block that is read.

Module names follow the published checkpoints, so that their state dicts load unchanged.
"""

# Shapes: N images, C channels, H x W pixels, E = 4 * num_channels embedding size, T = H * W positions.

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_seg.model.limits import MAX_BLOCKS_PER_LEVEL, MAX_CHANNELS, MAX_HEADS, MAX_IMAGE_SIZE, MAX_LEVELS, check_range
from ddpm_seg.model.networks.diffusion.unet_blocks import (
    AttentionBlock,
    Block,
    Downsample,
    GroupNorm,
    ResBlock,
    Stem,
    Upsample,
    zeroed,
)

_LIMITS = {
    "image_size": MAX_IMAGE_SIZE,
    "num_channels": MAX_CHANNELS,
    "num_res_blocks": MAX_BLOCKS_PER_LEVEL,
    "num_heads": MAX_HEADS,
    "num_head_channels": MAX_CHANNELS,
    "num_heads_upsample": MAX_HEADS,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class UNetConfig:
    """The architecture, with fields named like guided-diffusion's flags; `None` stands for that code's `-1`."""

    title: ClassVar[str] = "UNet"

    image_size: int
    num_channels: int
    num_res_blocks: int
    channel_mult: tuple[float, ...]
    attention_resolutions: tuple[int, ...]
    """Feature maps with these sides, for images of side `image_size`, get attention: the same numbers as
    guided-diffusion's --attention_resolutions."""
    num_heads: int = 4
    num_head_channels: int | None = None
    num_heads_upsample: int | None = None
    resblock_updown: bool = False
    use_scale_shift_norm: bool = True
    use_new_attention_order: bool = False
    learn_sigma: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        for name, most in _LIMITS.items():
            if (value := getattr(self, name)) is not None:
                check_range(name, value, most)
        check_range("levels (channel_mult)", len(self.channel_mult), MAX_LEVELS, least=0)
        check_range("attention_resolutions", len(self.attention_resolutions), MAX_HEADS, least=0)
        for multiplier in self.channel_mult:
            check_range("channel_mult x num_channels", multiplier * self.num_channels, MAX_CHANNELS)
        if not self.channel_mult or self.image_size % self.stride:
            raise ValueError(
                f"image_size {self.image_size} must be a multiple of {self.stride}, the stride of "
                f"{len(self.channel_mult)} levels (channel_mult {self.channel_mult})"
            )
        for channels in {self.channels(level) for level in range(len(self.channel_mult))}:
            if channels < 32 or channels % 32:
                raise ValueError(f"every level needs a multiple of 32 channels (group norm), got {channels}")
        if any(resolution < 1 for resolution in self.attention_resolutions):
            raise ValueError(f"attention_resolutions must be positive, got {self.attention_resolutions}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        for level in range(len(self.channel_mult)):
            if self.has_attention(level):
                self.heads(self.channels(level), upsampling=True)
            if self.has_attention(level) or level == len(self.channel_mult) - 1:
                self.heads(self.channels(level))

    @property
    def stride(self) -> int:
        """The sides of inputs must be multiples of this."""
        return 2 ** (len(self.channel_mult) - 1)

    @property
    def base_channels(self) -> int:
        """Channels of the maps at the image's own resolution."""
        return self.channels(0)

    @property
    def block_channels(self) -> list[int]:
        """Channels of each decoder block's output; block 0 is the deepest."""
        return [self.channels(level) for level in _levels_up(self) for _ in range(self.num_res_blocks + 1)]

    @property
    def block_strides(self) -> list[int]:
        """Input pixels per activation pixel for each decoder block, after its own upsampling; block 0 is the
        deepest."""
        strides = []
        for level in _levels_up(self):
            strides += [2**level] * self.num_res_blocks + [2 ** max(level - 1, 0)]
        return strides

    def build(self) -> UNet:
        return UNet(self)

    def at_side(self, side: int) -> UNetConfig:
        """The same layers for images of that side. Raises ValueError if `stride` does not divide it."""
        attended = tuple(side // 2**level for level in range(len(self.channel_mult)) if self.has_attention(level))
        return replace(self, image_size=side, attention_resolutions=attended)

    def channels(self, level: int) -> int:
        return int(self.channel_mult[level] * self.num_channels)

    def has_attention(self, level: int) -> bool:
        return 2**level in {self.image_size // resolution for resolution in self.attention_resolutions}

    def heads(self, channels: int, *, upsampling: bool = False) -> int:
        if self.num_head_channels is None:
            heads = self.num_heads_upsample if upsampling and self.num_heads_upsample else self.num_heads
        else:
            heads = channels // self.num_head_channels
        if heads < 1 or channels % heads or (self.num_head_channels and channels % self.num_head_channels):
            raise ValueError(
                f"{channels} channels do not divide into attention heads, given num_heads {self.num_heads}, "
                f"num_head_channels {self.num_head_channels} and num_heads_upsample {self.num_heads_upsample}"
            )
        return heads


def _levels_up(config: UNetConfig) -> range:
    return range(len(config.channel_mult) - 1, -1, -1)


def timestep_embedding(t_N: Tensor, dim: int) -> Tensor:
    """Sinusoids of (possibly fractional) timesteps, (N, dim) float32; guided-diffusion's `timestep_embedding`."""
    half = dim // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=t_N.device) / half)
    angles = t_N.float()[:, None] * frequencies
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, dim % 2))


class UNet(nn.Module):
    """Predicts the noise in `x_t`, and returns its decoder's activations."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        width = 4 * config.num_channels
        self.time_embed = nn.Sequential(nn.Linear(config.num_channels, width), nn.SiLU(), nn.Linear(width, width))
        self.input_blocks, skip_channels = _encoder(config)
        self.middle_block = _middle(config)
        self.output_blocks = _decoder(config, skip_channels)
        base = config.channels(0)
        out_channels = 6 if config.learn_sigma else 3
        self.out = nn.Sequential(GroupNorm(base), nn.SiLU(), zeroed(nn.Conv2d(base, out_channels, 3, padding=1)))

    def forward(self, x_t: Tensor, t_N: Tensor) -> Tensor:
        """Noise estimate for `x_t` (N, 3, H, W) in about [-1, 1] at network timesteps `t_N`.

        Returns (N, 3, H, W), or with `learn_sigma` (N, 6, H, W), the last three channels interpolating the variance. H
        and W are multiples of `config.stride`.
        """
        h = self.decode(x_t, t_N, last=len(self.output_blocks) - 1)[-1]
        return self.out(h.to(x_t.dtype))

    def activations(self, x_t: Tensor, t_N: Tensor, blocks: Sequence[int]) -> list[Tensor]:
        """Outputs of the decoder `blocks`, in ascending block order; computes nothing after the last one."""
        wanted = sorted(set(blocks))
        if not wanted or wanted[0] < 0 or wanted[-1] >= len(self.output_blocks):
            raise ValueError(f"blocks must lie in 0..{len(self.output_blocks) - 1}, got {list(blocks)}")
        return self.decode(x_t, t_N, last=wanted[-1], keep=frozenset(wanted))

    def cast_torso(self, dtype: torch.dtype) -> UNet:
        """Stores the convolutions of all blocks in `dtype`, as the published `use_fp16` does; the rest stays
        float32."""
        for block in (self.input_blocks, self.middle_block, self.output_blocks):
            for module in block.modules():
                if isinstance(module, (nn.Conv1d, nn.Conv2d)):
                    module.to(dtype)
        return self

    def decode(self, x_t: Tensor, t_N: Tensor, *, last: int, keep: frozenset[int] = frozenset()) -> list[Tensor]:
        """Outputs of decoder blocks `keep`, or only of block `last`."""
        if x_t.shape[-2] % self.config.stride or x_t.shape[-1] % self.config.stride:
            raise ValueError(f"image sides must be multiples of {self.config.stride}, got {tuple(x_t.shape[-2:])}")
        emb = self.time_embed(timestep_embedding(t_N, self.config.num_channels))
        h = x_t.to(next(self.input_blocks.parameters()).dtype)
        skips: list[Tensor] = []
        for index, block in enumerate(self.input_blocks):
            h = block(h, emb)
            # Only the last decoder blocks read the first encoder outputs: do not keep those that are not read.
            if index >= len(self.input_blocks) - 1 - last:
                skips.append(h)
        h = self.middle_block(h, emb)
        kept = []
        for index in range(last + 1):
            h = self.output_blocks[index](torch.cat([h, skips.pop()], dim=1), emb)
            if index in keep or (not keep and index == last):
                kept.append(h)
        return kept


def _encoder(config: UNetConfig) -> tuple[nn.ModuleList, list[int]]:
    """Encoder blocks, and the channels of each one's output."""
    channels = config.channels(0)
    blocks, skip_channels = [Block(Stem(3, channels, 3, padding=1))], [channels]
    for level in range(len(config.channel_mult)):
        for _ in range(config.num_res_blocks):
            blocks.append(Block(*_layers(config, level, channels)))
            channels = config.channels(level)
            skip_channels.append(channels)
        if level != len(config.channel_mult) - 1:
            down = (
                _res_block(config, channels, channels, resample="down")
                if config.resblock_updown
                else Downsample(channels)
            )
            blocks.append(Block(down))
            skip_channels.append(channels)
    return nn.ModuleList(blocks), skip_channels


def _middle(config: UNetConfig) -> Block:
    channels = config.channels(len(config.channel_mult) - 1)
    attention = AttentionBlock(channels, config.heads(channels), new_order=config.use_new_attention_order)
    return Block(_res_block(config, channels, channels), attention, _res_block(config, channels, channels))


def _decoder(config: UNetConfig, skip_channels: list[int]) -> nn.ModuleList:
    channels, blocks = skip_channels[-1], []
    for level in _levels_up(config):
        for index in range(config.num_res_blocks + 1):
            layers = _layers(config, level, channels + skip_channels.pop(), upsampling=True)
            channels = config.channels(level)
            if level and index == config.num_res_blocks:
                up = (
                    _res_block(config, channels, channels, resample="up")
                    if config.resblock_updown
                    else Upsample(channels)
                )
                layers.append(up)
            blocks.append(Block(*layers))
    return nn.ModuleList(blocks)


def _layers(config: UNetConfig, level: int, in_channels: int, *, upsampling: bool = False) -> list[nn.Module]:
    """A residual block, followed by attention if the level has it."""
    channels = config.channels(level)
    layers: list[nn.Module] = [_res_block(config, in_channels, channels)]
    if config.has_attention(level):
        heads = config.heads(channels, upsampling=upsampling)
        layers.append(AttentionBlock(channels, heads, new_order=config.use_new_attention_order))
    return layers


def _res_block(
    config: UNetConfig, in_channels: int, out_channels: int, *, resample: Literal["up", "down"] | None = None
) -> ResBlock:
    return ResBlock(
        in_channels,
        out_channels,
        embedding=4 * config.num_channels,
        scale_shift=config.use_scale_shift_norm,
        dropout=config.dropout,
        resample=resample,
    )
