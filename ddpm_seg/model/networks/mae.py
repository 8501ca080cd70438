"""The encoder of a masked autoencoder (He et al., CVPR 2022) as a source of features; it sees all patches."""

# Shapes: N images of S x S pixels, C channels, T = (S / patch)^2 patches.

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.limits import MAX_CHANNELS, MAX_DEPTH, MAX_HEADS, MAX_IMAGE_SIZE, check_range
from ddpm_seg.model.network import Checkpoint
from ddpm_seg.model.networks.image_network import ImageNetwork
from ddpm_seg.model.networks.pixel_values import to_imagenet

PUBLISHED_BLOCKS = 12
"""The published extractor reads this many of the last blocks."""
_LIMITS = {
    "image_size": MAX_IMAGE_SIZE,
    "patch_size": MAX_IMAGE_SIZE,
    "width": MAX_CHANNELS,
    "depth": MAX_DEPTH,
    "num_heads": MAX_HEADS,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class MAEConfig(ImageNetwork):
    """Architecture of the vision transformer; the published one is ViT-L with patch size 8: 24 blocks of width 1024."""

    kind: ClassVar[str] = "mae"
    checkpoints: ClassVar[tuple[Checkpoint, ...]] = (
        Checkpoint(
            flag="mae",
            title="MAE",
            loader="mae",
            landmarks={"patch_embed.proj.weight": None, "blocks.0.attn.qkv.weight": None},
            options=("classifiers", "experiment"),
        ),
    )

    image_size: int
    patch_size: int
    width: int
    depth: int
    num_heads: int

    def __post_init__(self) -> None:
        for name, most in _LIMITS.items():
            check_range(name, getattr(self, name), most)
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} must be a multiple of patch_size {self.patch_size}")
        if self.width % self.num_heads:
            raise ValueError(f"width {self.width} must be a multiple of num_heads {self.num_heads}")

    @property
    def title(self) -> str:
        return "MAE"

    @property
    def schema_version(self) -> int:
        return 2

    @property
    def num_patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2

    @property
    def block_channels(self) -> list[int]:
        """Channels of each transformer block's output, first block first."""
        return [self.width] * self.depth

    @property
    def block_sides(self) -> list[int]:
        return [self.image_size // self.patch_size] * self.depth

    @property
    def peak_values(self) -> int:
        """Values in memory at the peak: the kept maps, a block's own, and one attention matrix with all heads."""
        return self.num_patches * (self.width * (self.depth + 8) + self.num_heads * self.num_patches)

    def published_features(self) -> FeatureConfig:
        return FeatureConfig(steps=(), blocks=tuple(range(max(0, self.depth - PUBLISHED_BLOCKS), self.depth)))

    def preprocess(self, images: NDArray[np.uint8], device: torch.device | str) -> Tensor:
        return to_imagenet(images, device)

    def build(self) -> MAE:
        return MAE(self)


class MAE(nn.Module):
    """A vision transformer that returns its blocks' outputs, without the final norm, which is not needed."""

    def __init__(self, config: MAEConfig) -> None:
        from torchvision.models.vision_transformer import EncoderBlock  # takes a second to import

        super().__init__()
        width, patch = config.width, config.patch_size
        self.patch_embed = nn.Conv2d(3, width, patch, stride=patch)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + config.num_patches, width))
        # Pre-norm with an epsilon of 1e-6, as published.
        self.blocks = nn.ModuleList(
            EncoderBlock(config.num_heads, width, 4 * width, dropout=0.0, attention_dropout=0.0)
            for _ in range(config.depth)
        )

    def activations(self, x: Tensor, blocks: Collection[int]) -> list[Tensor]:
        """Outputs (N, C, S / patch, S / patch) of `blocks`, ascending, for `x` (N, 3, S, S) scaled by `to_imagenet`.

        Leaves out the class token, and computes nothing after the last block.
        """
        patches_NChw = self.patch_embed(x)
        tokens_NTC = patches_NChw.flatten(2).transpose(1, 2)
        h = torch.cat([self.cls_token.expand(len(x), -1, -1), tokens_NTC], dim=1) + self.pos_embed
        kept = []
        for index, block in enumerate(self.blocks[: max(blocks) + 1]):
            h = block(h)
            if index in blocks:
                kept.append(h[:, 1:].transpose(1, 2).reshape_as(patches_NChw))
        return kept
