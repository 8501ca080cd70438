"""GAN Inversion: e4e or pSp maps an image to codes, and StyleGAN2's maps for these codes are the features.

A baseline in section 4 of DDPM-Seg. One pass, without optimisation, truncation or new noise.
"""

# Shapes: N images of S x S pixels, R code rows of width W.

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.network import Checkpoint
from ddpm_seg.model.networks.image_network import ImageNetwork
from ddpm_seg.model.networks.pixel_values import to_network
from ddpm_seg.model.networks.style.gan_encoder import LANDMARKS, check_encoder, encoder_peak
from ddpm_seg.model.networks.style.ir_se50 import BODY, IRSE50, P1, P2
from ddpm_seg.model.networks.style.stylegan2_generator import (
    StyleMaps,
    check_generator,
    generator_peak,
    map_channels,
    map_sides,
    maps_within,
)

Codes = Literal["e4e", "psp"]
"""How the style heads make codes; the two encoders are otherwise the same."""

MAX_SIDE = 256
"""Largest side of the images: the style heads reduce the encoder's last map, which then has 16 x 16 pixels, to one."""
_COARSE, _MIDDLE = 3, 7
"""The first style that reads p2, and the first that reads p1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GANInversionConfig(ImageNetwork):
    """An encoder of `width` (64 as published), and the generator for its codes."""

    kind: ClassVar[str] = "gan_inversion"
    checkpoints: ClassVar[tuple[Checkpoint, ...]] = (
        Checkpoint(
            flag="gan_inversion",
            title="GAN Inversion",
            loader="style_encoders",
            landmarks=LANDMARKS,
            options=("image_size", "encoder_type"),
        ),
    )

    image_size: int
    codes: Codes
    width: int
    channels: tuple[int, ...]
    """Channels of the generator's layers at 4 x 4, 8 x 8, ... pixels."""

    def __post_init__(self) -> None:
        check_encoder(self.image_size, self.width)
        check_generator(self.channels, None)
        if self.image_size > MAX_SIDE:
            raise ValueError(f"image_size must be at most {MAX_SIDE} for its style heads, got {self.image_size}")
        if self.codes not in ("e4e", "psp"):
            raise ValueError(f"codes must be 'e4e' or 'psp', got {self.codes!r}")

    @property
    def title(self) -> str:
        return "GAN Inversion"

    @property
    def block_channels(self) -> list[int]:
        """Channels of the generator's constant input and of its layers' outputs."""
        return map_channels(self.channels)

    @property
    def block_sides(self) -> list[int]:
        return map_sides(self.channels)

    @property
    def peak_values(self) -> int:
        return max(encoder_peak(self.image_size, self.width), generator_peak(self.channels))

    def published_features(self) -> FeatureConfig:
        """All maps that are no larger than the image."""
        return FeatureConfig(steps=(), blocks=maps_within(self.channels, self.image_size))

    def preprocess(self, images: NDArray[np.uint8], device: torch.device | str) -> Tensor:
        return to_network(images, device)

    def cast(self, network: nn.Module, dtype: torch.dtype) -> None:
        """Keeps codes, styles and noise in float32."""
        assert isinstance(network, GANInversion)  # what `build` returns
        network.float()
        network.encoder.to(dtype)
        network.decoder.cast_convolutions(dtype)

    def build(self) -> GANInversion:
        return GANInversion(self)


class GANInversion(nn.Module):
    """The encoder, and the part of the generator that makes maps from codes."""

    latent_avg: Tensor
    """(R, W): mean code, added to the codes."""

    def __init__(self, config: GANInversionConfig) -> None:
        super().__init__()
        rows, code_width = 2 * len(config.channels), 8 * config.width
        self.encoder = StyleEncoder(config.width, rows, config.codes)
        self.decoder = StyleMaps(config.channels, code_width, None)
        self.register_buffer("latent_avg", torch.zeros(rows, code_width))

    def codes(self, x: Tensor, rows: int) -> Tensor:
        """The first `rows` codes (N, rows, W) float32 for `x` (N, 3, S, S) in [-1, 1]."""
        mean = self.latent_avg[:rows].expand(len(x), -1, -1)
        return mean + self.encoder(x, rows) if rows else mean

    def activations(self, x: Tensor, blocks: Collection[int]) -> list[Tensor]:
        """The generator's maps of `blocks`, ascending, for `x` (N, 3, S, S) in [-1, 1].

        Does not compute codes and layers after the last of them.
        """
        last = max(blocks)
        numbered = zip(range(last + 1), self.decoder.maps(self.codes(x, last)), strict=False)
        return [h for number, h in numbered if number in blocks]


class StyleEncoder(IRSE50):
    """An encoder with its style heads, one per row of the code."""

    def __init__(self, width: int, rows: int, codes: Codes) -> None:
        super().__init__(width)
        self.styles = nn.ModuleList(_StyleHead(8 * width, _halvings(row)) for row in range(rows))
        self.residual = codes == "e4e"

    def forward(self, x: Tensor, rows: int) -> Tensor:
        """The first `rows` codes (N, rows, W) float32 for `x` (N, 3, S, S) in [-1, 1], without the mean code."""
        blocks = [block for first, block in zip((0, _COARSE, _MIDDLE), (BODY - 1, P2, P1), strict=True) if rows > first]
        levels = self.activations(x, blocks)
        codes = [
            style(levels[(row >= _COARSE) + (row >= _MIDDLE)]).float() for row, style in enumerate(self.styles[:rows])
        ]
        if self.residual:
            codes = [codes[0], *(codes[0] + code for code in codes[1:])]
        return torch.stack(codes, dim=1)


class _StyleHead(nn.Module):
    def __init__(self, width: int, halvings: int) -> None:
        super().__init__()
        self.convs = nn.Sequential()
        for _ in range(halvings):
            self.convs.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
            self.convs.append(nn.LeakyReLU(0.01))
        self.linear = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """x (N, W, h, w), h and w at most 2 to the halvings, to (N, W)."""
        x = self.convs(x).flatten(1)
        return F.linear(x, self.linear.weight / math.sqrt(x.shape[1]), self.linear.bias)


def _halvings(row: int) -> int:
    """Number of halvings from 16, 32 or 64 pixels to one."""
    return 4 + (row >= _COARSE) + (row >= _MIDDLE)
