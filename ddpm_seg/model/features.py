"""Which activations describe a pixel (DDPM-Seg, section 3), and the interface to read them from a network."""

# Shapes: N images of S x S pixels, C channels, h x w an activation's own resolution.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_seg.fits import Average
from ddpm_seg.model.limits import MAX_STEPS, check_range


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureConfig:
    """Timesteps to noise the image to, blocks to read at each, and how their maps are upsampled to pixels.

    `steps` is empty for a network without a noise schedule, which sees each image once, without noise.
    """

    steps: tuple[int, ...]
    blocks: tuple[int, ...]
    upsample_mode: Literal["bilinear", "nearest"] = "bilinear"
    truncation: float | None = None
    """What a StyleGAN2's codes are multiplied with that the features come from, or None for another network."""
    noise_draws: int | None = None
    """Over how many noises a DDPM's maps are averaged; None for the bundle's own noise alone."""
    resize: Literal["nearest"] | None = None
    refine: Literal["bilateral", "guided"] | None = None
    average: Literal["mirror", "shifts"] | None = None
    """How jobs.label makes masks unless told otherwise, where tuning chose something else than its own defaults."""

    def __post_init__(self) -> None:
        if self.upsample_mode not in ("bilinear", "nearest"):
            raise ValueError(f"upsample_mode must be 'bilinear' or 'nearest', got {self.upsample_mode!r}")
        if self.truncation is not None:
            check_range("truncation", self.truncation, 1, least=0)
        if self.noise_draws is not None:
            check_range("noise_draws", self.noise_draws, MAX_STEPS)
        check_range("number of steps", len(self.steps), MAX_STEPS, least=0)
        check_range("number of blocks", len(self.blocks), MAX_STEPS, least=0)
        if not self.blocks:
            raise ValueError(f"features need at least one block, got {self.blocks}")

    def __repr__(self) -> str:
        """Names files of features, so it stays as it was for what earlier releases knew."""
        names = ("steps", "blocks", "upsample_mode", *(("noise_draws",) if self.noise_draws is not None else ()))
        return f"FeatureConfig({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def to_json(self) -> dict[str, Any]:
        """As bundle.json has it: without what a network does not have."""
        optional = ("truncation", "noise_draws", "resize", "refine", "average")
        return {name: value for name, value in asdict(self).items() if value is not None or name not in optional}

    @property
    def passes(self) -> int:
        """How often an image passes through the network."""
        return max(1, len(self.steps))

    def check(self, network: NetworkBlocks) -> None:
        """Raises ValueError if the network does not have one of the steps or blocks."""
        if network.timesteps == 0 and self.steps:
            raise ValueError(f"only a DDPM has steps, and this is a {network.title}: leave them out, got {self.steps}")
        if network.timesteps == 0 and self.noise_draws is not None:
            raise ValueError(f"only a DDPM has noise, and this is a {network.title}: leave out --noise-draws")
        if network.timesteps and not self.steps:
            raise ValueError(f"features of a {network.title} need at least one step, got {self.steps}")
        if self.steps and (min(self.steps) < 0 or max(self.steps) >= network.timesteps):
            raise ValueError(f"steps must lie in 0..{network.timesteps - 1}, got {self.steps}")
        last = len(network.block_channels) - 1
        if min(self.blocks) < 0 or max(self.blocks) > last:
            raise ValueError(f"blocks must lie in 0..{last}, got {self.blocks}")

    def channels(self, network: NetworkBlocks) -> list[int]:
        """Channels of each map that an `Extractor` returns, in order; their sum is the published `dim[2]`."""
        return [network.block_channels[block] for block in sorted(set(self.blocks))] * self.passes

    def sides(self, network: NetworkBlocks) -> list[int]:
        """Side of each map that an `Extractor` returns, in order."""
        return [network.block_sides[block] for block in sorted(set(self.blocks))] * self.passes


Resize = Literal["bilinear", "nearest"]
Refine = Literal["none", "bilateral", "guided"]


def as_tuned(
    features: FeatureConfig | None,
    resize: Resize | None,
    refine: Refine | None,
    average: Average | None,
    *,
    tiles: bool = False,
) -> tuple[Resize | None, Refine, Average]:
    """How to make masks: what is given, else what the bundle's `features` were tuned to, else the defaults.

    Resize stays None if neither says anything. Refinement works on interpolated probabilities only, and with `tiles` a
    bundle's shifts do not count: the network then sees each pixel several times anyway.
    """
    if refine is None:
        refine = (features.refine if features and resize != "nearest" else None) or "none"
    if resize is None:
        resize = "bilinear" if refine != "none" else features.resize if features else None
    tuned = features.average if features else None
    if tiles and tuned == "shifts":
        tuned = None
    return resize, refine, average or tuned or "none"


class NetworkBlocks(Protocol):
    """The maps that can be read from a network."""

    @property
    def title(self) -> str:
        """Its name in messages."""

    @property
    def timesteps(self) -> int:
        """Length of its noise schedule; 0 if it sees images without noise."""

    @property
    def block_channels(self) -> Sequence[int]:
        """Channels of each block's map."""

    @property
    def block_sides(self) -> Sequence[int]:
        """Side of each block's map; maps are square."""


class Extractor(Protocol):
    """A network on a device, with its weights and the preprocessing that it was trained with."""

    def __call__(
        self, images: NDArray[np.uint8], features: FeatureConfig, *, micro_batch: int | None = None
    ) -> list[Tensor]:
        """Maps of `images` (N, S, S, 3) uint8, at their native resolution.

        Returns one (N, C_i, h_i, w_i) tensor per step and block, steps outermost, blocks ascending: the published
        order, whatever the order of `features.blocks`. At most `micro_batch` (image, step) pairs pass through at once.
        """


def joined(batches: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Joins the maps of consecutive batches into maps of all their images."""
    return [torch.cat(maps) if len(maps) > 1 else maps[0] for maps in zip(*batches, strict=True)]
