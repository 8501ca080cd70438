"""The encoder of StyleALAE, a latent autoencoder (Pidhorskyi et al., CVPR 2020), as a source of features."""

# Shapes: N images of S x S pixels, C channels, R x R the resolution that the encoder takes.

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.limits import MAX_CHANNELS, MAX_IMAGE_SIZE, check_range
from ddpm_seg.model.network import Checkpoint
from ddpm_seg.model.networks.image_network import ImageNetwork
from ddpm_seg.model.networks.pixel_values import to_network

MOST_BLOCKS = MAX_IMAGE_SIZE.bit_length() - 2
"""An encoder of B blocks takes 2^(B + 1) x 2^(B + 1) pixels."""

EPSILON = 1e-5
"""Epsilon of the instance norms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ALAEConfig(ImageNetwork):
    """The architecture: each block halves the resolution, and the last one ends at 2 x 2.

    The encoder's own resolution follows from the number of blocks. Smaller images are enlarged to it, and blocks with
    finer maps than the image are not read: block 0 is the first whose map is not finer.
    """

    kind: ClassVar[str] = "alae"
    checkpoints: ClassVar[tuple[Checkpoint, ...]] = (
        Checkpoint(
            flag="alae",
            title="StyleALAE",
            loader="alae",
            landmarks={"encode_block.0.conv_1.weight": None},
            options=("image_size",),
        ),
    )

    image_size: int
    """Side of the images: a power of 2, at most the encoder's resolution. Smaller images are enlarged to it."""
    widths: tuple[int, ...]
    """Channels of the first layer, and of each encoder block's output."""

    def __post_init__(self) -> None:
        check_range("number of blocks (widths less one)", len(self.widths) - 1, MOST_BLOCKS)
        for width in self.widths:
            check_range("width", width, MAX_CHANNELS)
        check_range("image_size", self.image_size, self.resolution, least=2)
        if self.resolution % self.image_size:
            raise ValueError(f"image_size must be a power of 2, got {self.image_size}")

    @property
    def title(self) -> str:
        return "StyleALAE"

    @property
    def resolution(self) -> int:
        """Side of the encoder's input."""
        return 2 ** len(self.widths)

    @property
    def first_block(self) -> int:
        """The encoder's block that is block 0 here."""
        return max(0, (self.resolution // self.image_size).bit_length() - 2)

    @property
    def block_channels(self) -> list[int]:
        return list(self.widths[1 + self.first_block :])

    @property
    def block_sides(self) -> list[int]:
        return [self.resolution // 2 ** (index + 1) for index in range(self.first_block, len(self.widths) - 1)]

    @property
    def peak_values(self) -> int:
        """Values in memory at the peak: about five maps of the first layer."""
        return 5 * self.widths[0] * self.resolution**2

    def published_features(self) -> FeatureConfig:
        """All blocks. (Our choice, as no published one is known.)"""
        return FeatureConfig(steps=(), blocks=tuple(range(len(self.block_channels))))

    def preprocess(self, images: NDArray[np.uint8], device: torch.device | str) -> Tensor:
        return to_network(images, device)

    def build(self) -> ALAE:
        return ALAE(self)


class ALAE(nn.Module):
    """The encoder without the layers that compute the image's code, which is not a map."""

    def __init__(self, config: ALAEConfig) -> None:
        super().__init__()
        self.resolution, self.first_block = config.resolution, config.first_block
        self.from_rgb = nn.Conv2d(3, config.widths[0], 1)
        self.encode_block = nn.ModuleList(EncodeBlock(*pair) for pair in pairwise(config.widths))

    def activations(self, x: Tensor, blocks: Collection[int]) -> list[Tensor]:
        """Outputs (N, C, h, w) of `blocks`, ascending, for `x` (N, 3, S, S) from `ALAEConfig.preprocess`.

        Blocks count from the first whose map is not finer than the image. Computes nothing after the last one.
        """
        if x.shape[-1] != self.resolution:
            x = F.interpolate(x, size=(self.resolution, self.resolution), mode="bilinear")
        # Leaky ReLU twice, as published: in the layer itself, and again before the blocks.
        h = F.leaky_relu(self.from_rgb(x), 0.2 * 0.2)
        kept = []
        for index, block in enumerate(self.encode_block[: self.first_block + max(blocks) + 1], -self.first_block):
            h = block(h)
            if index in blocks:
                kept.append(h)
        return kept


class EncodeBlock(nn.Module):
    """Two convolutions, the second at half the resolution, each followed by an instance norm."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.conv_1 = nn.Conv2d(entering, entering, 3, padding=1)
        self.conv_2 = nn.Conv2d(entering, leaving, 4, stride=2, padding=1)
        """A 3 x 3 convolution and 2 x 2 average pooling in one convolution, with 4/9 of the work."""

    def forward(self, h: Tensor) -> Tensor:
        h = _instance_norm(F.leaky_relu(self.conv_1(h), 0.2))
        return _instance_norm(F.leaky_relu(self.conv_2(_blur(h)), 0.2))


def pooled_kernel(kernel: Tensor) -> Tensor:
    """The 4 x 4 kernel with which a convolution of stride 2 equals one with a 3 x 3 `kernel` and 2 x 2 average
    pooling."""
    return F.avg_pool2d(F.pad(kernel.float(), (1, 1, 1, 1)), 2, stride=1)


def _blur(h: Tensor) -> Tensor:
    """Filters each channel with [1, 2, 1] / 4 in both directions, zeros outside: two averages of neighbours."""
    return F.avg_pool2d(F.avg_pool2d(h, 2, stride=1, padding=1), 2, stride=1)


def _instance_norm(h: Tensor) -> Tensor:
    """Scales each channel of each image to mean 0 and deviation 1, in float32, as the last maps have only 2 x 2 values.

    Unlike F.instance_norm, it keeps h channels-last, which makes the convolutions faster.
    """
    variance, mean = torch.var_mean(h.float(), dim=(2, 3), correction=0, keepdim=True)
    return ((h - mean) * (variance + EPSILON).rsqrt()).to(h.dtype)
