"""The training objective of a MAE: to fill in the hidden three quarters of an image's patches.

He et al., CVPR 2022. Images are only mirrored, as in the DDPM's training; the paper's random crops are for --crop.
"""

# Shapes: N images of S x S pixels, T = (S / patch)^2 patches of D = 3 patch^2 values, C channels.

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.networks.mae import MAEConfig
from ddpm_seg.model.networks.pixel_values import to_imagenet

SHOWN = 0.25
"""Share of the patches that the encoder sees, as published."""
ENCODER = "encoder."


class MaskedAutoencoder(nn.Module):
    """The encoder, which is kept, and the decoder, which only training needs.

    The decoder has half the encoder's width, a third of its blocks and as many heads, as published for ViT-L.
    """

    def __init__(self, config: MAEConfig) -> None:
        from torchvision.models.vision_transformer import EncoderBlock  # takes a second to import

        super().__init__()
        if config.width % (2 * config.num_heads):
            raise ValueError(
                f"width {config.width} must be a multiple of twice num_heads {config.num_heads}: "
                "the decoder has half the width and as many heads"
            )
        width, patch = config.width // 2, config.patch_size
        self.patch_size = patch
        self.encoder = config.build()
        self.encoder_norm = nn.LayerNorm(config.width, eps=1e-6)
        self.decoder_embed = nn.Linear(config.width, width)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.decoder_pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + config.num_patches, width))
        self.decoder_blocks = nn.ModuleList(
            EncoderBlock(config.num_heads, width, 4 * width, dropout=0.0, attention_dropout=0.0)
            for _ in range(max(1, config.depth // 3))
        )
        self.decoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_pred = nn.Linear(width, 3 * patch**2)

    def forward(self, x: Tensor, order_NT: Tensor) -> Tensor:
        """Predicts all patches (N, T, D) of `x` (N, 3, S, S) from the first quarter of them in the order `order_NT`."""
        encoder, shown = self.encoder, _take(order_NT, SHOWN)
        tokens_NTC = encoder.patch_embed(x).flatten(2).transpose(1, 2) + encoder.pos_embed[:, 1:]
        first = (encoder.cls_token + encoder.pos_embed[:, :1]).expand(len(x), -1, -1)
        h = torch.cat([first, _gather(tokens_NTC, shown)], dim=1)
        for block in encoder.blocks:
            h = block(h)
        h = self.decoder_embed(self.encoder_norm(h))
        hidden = self.mask_token.expand(len(x), order_NT.shape[1] - shown.shape[1], -1).to(h.dtype)
        back_NT = order_NT.argsort(dim=1)
        h = torch.cat([h[:, :1], _gather(torch.cat([h[:, 1:], hidden], dim=1), back_NT)], dim=1)
        h = h + self.decoder_pos_embed
        for block in self.decoder_blocks:
            h = block(h)
        return self.decoder_pred(self.decoder_norm(h[:, 1:]))


class Inpainting:
    """Predicts the pixels of hidden patches; an `Objective`."""

    adamw: Mapping[str, Any] = {"weight_decay": 0.05, "betas": (0.9, 0.95)}  # as published
    draws_images = False

    def __init__(self, config: MAEConfig) -> None:
        self.config = config

    @property
    def image_size(self) -> int:
        return self.config.image_size

    @property
    def configs(self) -> dict[str, dict[str, Any]]:
        return {MAEConfig.kind: asdict(self.config)}

    def build(self) -> nn.Module:
        return MaskedAutoencoder(self.config)

    def draw(self, images: NDArray[np.uint8], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """x (B, 3, S, S), scaled by `to_imagenet`, and a random order (B, T) of each image's patches."""
        order = rng.random((len(images), self.config.num_patches)).argsort(axis=1)
        return to_imagenet(images, "cpu"), torch.from_numpy(order)

    def loss(self, network: Callable[..., Tensor], *batch: Tensor) -> Tensor:
        """Mean squared error over the hidden patches, each standardised on its own ("normalized pixels", section 3)."""
        x, order_NT = batch
        target_NTD = patches(x, self.config.patch_size)
        deviation, mean = torch.std_mean(target_NTD, dim=2, keepdim=True)
        target_NTD = (target_NTD - mean) / (deviation.square() + 1e-6).sqrt()
        error_NT = (network(x, order_NT).float() - target_NTD).square().mean(dim=2)
        return error_NT.gather(1, order_NT[:, _take(order_NT, SHOWN).shape[1] :]).mean()

    def bundle(self, weights: Mapping[str, Tensor]) -> Bundle:
        """A bundle of the encoder alone."""
        encoder = {key.removeprefix(ENCODER): value for key, value in weights.items() if key.startswith(ENCODER)}
        return Bundle(network=self.config, weights=encoder)


def patches(x: Tensor, size: int) -> Tensor:
    """Splits (N, 3, S, S) into patches (N, T, D), row by row, with the channels of a pixel innermost, as published."""
    n, channels, height, width = x.shape
    grid = x.reshape(n, channels, height // size, size, width // size, size)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(n, -1, size * size * channels)


def _take(order_NT: Tensor, share: float) -> Tensor:
    """The first `share` of every row, but at least one entry."""
    return order_NT[:, : max(1, int(share * order_NT.shape[1]))]


def _gather(tokens_NTC: Tensor, indices: Tensor) -> Tensor:
    return tokens_NTC.gather(1, indices[:, :, None].expand(-1, -1, tokens_NTC.shape[2]))
