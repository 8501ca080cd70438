"""GAN Encoder: the activations of an e4e or pSp encoder as features (DDPM-Seg, section 4)."""

# Shapes: N images of S x S pixels.

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.limits import MAX_CHANNELS, MAX_IMAGE_SIZE, check_range
from ddpm_seg.model.network import Checkpoint
from ddpm_seg.model.networks.image_network import ImageNetwork
from ddpm_seg.model.networks.pixel_values import to_network
from ddpm_seg.model.networks.style import ir_se50
from ddpm_seg.model.networks.style.ir_se50 import IRSE50, P1, P2

LANDMARKS: dict[str, int | None] = {"encoder.body.23.res_layer.3.weight": None, "encoder.latlayer2.weight": None}
"""Names that mark the checkpoints of e4e and pSp."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GANEncoderConfig(ImageNetwork):
    """The architecture: `width` is 64 in the published encoders."""

    kind: ClassVar[str] = "gan_encoder"
    checkpoints: ClassVar[tuple[Checkpoint, ...]] = (
        Checkpoint(
            flag="gan_encoder",
            title="GAN Encoder",
            loader="style_encoders",
            landmarks=LANDMARKS,
            options=("image_size",),
        ),
    )

    image_size: int
    width: int

    def __post_init__(self) -> None:
        check_encoder(self.image_size, self.width)

    @property
    def title(self) -> str:
        return "GAN Encoder"

    @property
    def block_channels(self) -> list[int]:
        """Channels of the outputs of the body's 24 units, and of p2 and p1."""
        return ir_se50.block_channels(self.width)

    @property
    def block_sides(self) -> list[int]:
        return [self.image_size // stride for stride in ir_se50.block_strides()]

    @property
    def peak_values(self) -> int:
        return encoder_peak(self.image_size, self.width)

    def published_features(self) -> FeatureConfig:
        """The last unit of each stage, and the pyramid. (Which ones the paper read is not known.)"""
        return FeatureConfig(steps=(), blocks=(2, 6, 20, 23, P2, P1))

    def preprocess(self, images: NDArray[np.uint8], device: torch.device | str) -> Tensor:
        return to_network(images, device)

    def build(self) -> IRSE50:
        return IRSE50(self.width)


def check_encoder(image_size: int, width: int) -> None:
    """Raises ValueError for an encoder that cannot exist."""
    if image_size < 1 or image_size % ir_se50.STRIDE:
        raise ValueError(f"image_size must be a multiple of {ir_se50.STRIDE}, got {image_size}")
    check_range("image_size", image_size, MAX_IMAGE_SIZE)
    check_range("width", width, MAX_CHANNELS // 8, least=ir_se50.REDUCTION)


def encoder_peak(image_size: int, width: int) -> int:
    """Approximate number of values in memory at the peak: all maps, and four as large as the image in the first
    unit."""
    sizes = zip(ir_se50.block_channels(width), ir_se50.block_strides(), strict=True)
    return 4 * width * image_size**2 + sum(channels * (image_size // stride) ** 2 for channels, stride in sizes)
