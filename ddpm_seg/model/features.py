"""Which activations describe a pixel (DDPM-Seg section 3), and what a network offers so that they can be read."""

# Shapes: N images of S x S pixels, C channels, h x w an activation's own resolution.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from ddpm_seg.model.limits import MAX_STEPS, check_range


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureConfig:
    """Timesteps to noise the image to, blocks to read there, and how their maps are brought to pixels.

    A network without a noise schedule sees the image once, as it is: `steps` is empty.
    """

    steps: tuple[int, ...]
    blocks: tuple[int, ...]
    upsample_mode: Literal["bilinear", "nearest"] = "bilinear"

    def __post_init__(self) -> None:
        if self.upsample_mode not in ("bilinear", "nearest"):
            raise ValueError(f"upsample_mode must be 'bilinear' or 'nearest', got {self.upsample_mode!r}")
        check_range("number of steps", len(self.steps), MAX_STEPS, least=0)
        check_range("number of blocks", len(self.blocks), MAX_STEPS, least=0)
        if not self.blocks:
            raise ValueError(f"features need at least one block, got {self.blocks}")

    @property
    def passes(self) -> int:
        """Times that an image goes through the network."""
        return max(1, len(self.steps))

    def check(self, network: NetworkBlocks) -> None:
        """Raises ValueError where a step or a block does not exist in this network."""
        if network.timesteps == 0 and self.steps:
            raise ValueError(f"steps are of a DDPM, and this is a {network.title}: leave them out, got {self.steps}")
        if network.timesteps and not self.steps:
            raise ValueError(f"features of a {network.title} need at least one step, got {self.steps}")
        if self.steps and (min(self.steps) < 0 or max(self.steps) >= network.timesteps):
            raise ValueError(f"steps must lie in 0..{network.timesteps - 1}, got {self.steps}")
        last = len(network.block_channels) - 1
        if min(self.blocks) < 0 or max(self.blocks) > last:
            raise ValueError(f"blocks must lie in 0..{last}, got {self.blocks}")

    def channels(self, network: NetworkBlocks) -> list[int]:
        """Channels of every map that an `Extractor` returns, in its order; their sum is the published `dim[2]`."""
        return [network.block_channels[block] for block in sorted(set(self.blocks))] * self.passes

    def sides(self, network: NetworkBlocks) -> list[int]:
        """Side of every map that an `Extractor` returns, in its order."""
        return [network.block_sides[block] for block in sorted(set(self.blocks))] * self.passes


class NetworkBlocks(Protocol):
    """What a network says of the maps that can be read from it."""

    @property
    def title(self) -> str:
        """Its name in messages."""

    @property
    def timesteps(self) -> int:
        """Length of its noise schedule; 0 where it sees images as they are."""

    @property
    def block_channels(self) -> Sequence[int]:
        """Channels of each block's map."""

    @property
    def block_sides(self) -> Sequence[int]:
        """Side of each block's map, which is square."""


class Extractor(Protocol):
    """A network on a device, with its weights and with the preprocessing that it was trained with."""

    def __call__(self, images: np.ndarray, features: FeatureConfig, *, micro_batch: int | None = None) -> list[Tensor]:
        """Maps of `images` (N, S, S, 3) uint8, none of them upsampled.

        One (N, C_i, h_i, w_i) tensor a step and block, steps outermost, blocks ascending: the published order, whatever
        the order in which blocks are named. At most `micro_batch` of the images and steps go through at once.
        """


def joined(batches: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Maps of consecutive batches as those of all their images."""
    return [torch.cat(maps) if len(maps) > 1 else maps[0] for maps in zip(*batches, strict=True)]
