"""The ResNet-50 of SwAV (Caron et al., NeurIPS 2020), or one twice as wide, as a source of features."""

# Shapes: N images of S x S pixels, C channels.

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import accumulate
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
from ddpm_seg.model.networks.pixel_values import to_imagenet

DEPTHS = (3, 4, 6, 3)
"""Number of residual blocks in each of the four layers."""
EXPANSION = 4
STRIDE = 32
"""Image pixels per pixel of the last layer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SwAVConfig(ImageNetwork):
    """The architecture: `width` is 64 in SwAV, and 128 in SwAVw2, where every convolution is twice as wide."""

    kind: ClassVar[str] = "swav"
    checkpoints: ClassVar[tuple[Checkpoint, ...]] = tuple(
        Checkpoint(
            flag=flag,
            title=title,
            loader="swav",
            landmarks={"layer1.0.conv1.weight": None, "conv1.weight": width},
            options=("classifiers", "experiment"),
        )
        for flag, title, width in (("swav", "SwAV", 64), ("swav_w2", "SwAVw2", 128))
    )

    image_size: int
    width: int

    def __post_init__(self) -> None:
        if self.image_size < 1 or self.image_size % STRIDE:
            raise ValueError(f"image_size must be a multiple of {STRIDE}, got {self.image_size}")
        check_range("image_size", self.image_size, MAX_IMAGE_SIZE)
        check_range("width", self.width, MAX_CHANNELS // (EXPANSION * 8))

    @property
    def title(self) -> str:
        return "SwAVw2" if self.width == 128 else "SwAV"

    @property
    def schema_version(self) -> int:
        return 2

    @property
    def block_channels(self) -> list[int]:
        """Channels of each residual block's input, which is the previous block's output, or the stem's."""
        outputs = [EXPANSION * self.width * 2**layer for layer, depth in enumerate(DEPTHS) for _ in range(depth)]
        return [self.width, *outputs[:-1]]

    @property
    def block_sides(self) -> list[int]:
        outputs = [self.image_size // (4 * 2**layer) for layer, depth in enumerate(DEPTHS) for _ in range(depth)]
        return [self.image_size // 4, *outputs[:-1]]

    @property
    def peak_values(self) -> int:
        """Values in memory at the peak: about six maps of the first layer, each pixel 4 x 4 of the image's."""
        return 6 * EXPANSION * self.width * (self.image_size // 4) ** 2

    def published_features(self) -> FeatureConfig:
        """Every second block of each layer, starting with its first."""
        starts = [0, *accumulate(DEPTHS)]
        blocks = [start + index for start, depth in zip(starts, DEPTHS, strict=False) for index in range(0, depth, 2)]
        return FeatureConfig(steps=(), blocks=tuple(blocks))

    def preprocess(self, images: NDArray[np.uint8], device: torch.device | str) -> Tensor:
        return to_imagenet(images, device)

    def build(self) -> SwAV:
        return SwAV(self)


class SwAV(nn.Module):
    """A ResNet-50 that returns its residual blocks' inputs; module names are torchvision's and SwAV's own."""

    def __init__(self, config: SwAVConfig) -> None:
        super().__init__()
        width = config.width
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1, self.layer2, self.layer3, self.layer4 = (
            _layer(width * 2**layer, depth, first=layer == 0) for layer, depth in enumerate(DEPTHS)
        )

    def activations(self, x: Tensor, blocks: Collection[int]) -> list[Tensor]:
        """Inputs (N, C, h, w) of the residual `blocks`, ascending, for `x` (N, 3, S, S) scaled by `to_imagenet`.

        Blocks are numbered through all layers. Computes nothing after the last input.
        """
        h = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        kept, last = [], max(blocks)
        for index, block in enumerate([*self.layer1, *self.layer2, *self.layer3, *self.layer4]):
            if index in blocks:
                kept.append(h)
            if index == last:
                break
            h = block(h)
        return kept


def _layer(planes: int, depth: int, *, first: bool) -> nn.Sequential:
    """`depth` bottlenecks of `planes`; the first widens, and halves the resolution except in the first layer."""
    from torchvision.models.resnet import Bottleneck  # takes a second to import

    entering, leaving, stride = planes if first else EXPANSION * planes // 2, EXPANSION * planes, 1 if first else 2
    shortcut = nn.Sequential(nn.Conv2d(entering, leaving, 1, stride=stride, bias=False), nn.BatchNorm2d(leaving))
    blocks = [Bottleneck(leaving, planes) for _ in range(depth - 1)]
    return nn.Sequential(Bottleneck(entering, planes, stride, shortcut), *blocks)
