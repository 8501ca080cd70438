"""Encoder and decoder of a very deep VAE (Child, ICLR 2021) as a source of features.

The latents are the posterior's means: nothing is random, so an image always has the same features.
"""

# Shapes: N images of S x S pixels, C channels, r a block's resolution (its maps are r x r).

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
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
from ddpm_seg.model.networks.pixel_values import to_standard
from ddpm_seg.model.networks.vdvae_blocks import (
    DecoderLayer,
    EncoderLayer,
    decoder_layers,
    encoder_layers,
    kernel_size,
)

_LIMITS = {"image_size": MAX_IMAGE_SIZE, "width": MAX_CHANNELS, "inner_width": MAX_CHANNELS, "zdim": MAX_CHANNELS}
_MOST_SHIFT = 1e6
_LEAST_DEVIATION = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class VDVAEConfig(ImageNetwork):
    """The architecture, in the published notation, and the standardisation of the input.

    `enc_blocks` and `dec_blocks` list the blocks in order: `256x3` is three blocks at resolution 256, `256d2` one at
    256 whose output is pooled to 128, `4m1` one at 4 that first adds the state of resolution 1.
    """

    kind: ClassVar[str] = "vdvae"
    checkpoints: ClassVar[tuple[Checkpoint, ...]] = (
        Checkpoint(
            flag="vdvae",
            title="VDVAE",
            loader="vdvae",
            landmarks={"encoder.in_conv.weight": None, "encoder.enc_blocks.0.c1.weight": None},
            options=("model_flags",),
        ),
    )

    image_size: int
    width: int
    """Channels of each block's output."""
    inner_width: int
    """Channels between a block's convolutions."""
    zdim: int
    """Channels of each block's latent."""
    enc_blocks: str
    dec_blocks: str
    no_bias_above: int
    """Largest resolution at which the decoder's state starts from learnt values; above it starts from zeros."""
    shift: float
    """Added to each value, 0 to 255, of an image."""
    deviation: float
    """The shifted values are divided by this."""

    def __post_init__(self) -> None:
        for name, most in _LIMITS.items():
            check_range(name, getattr(self, name), most)
        check_range("no_bias_above", self.no_bias_above, MAX_IMAGE_SIZE, least=0)
        check_range("shift", self.shift, _MOST_SHIFT, least=-_MOST_SHIFT)
        check_range("deviation", self.deviation, _MOST_SHIFT, least=_LEAST_DEVIATION)
        _ = self.decoder  # raises ValueError for strings that describe no network

    @property
    def title(self) -> str:
        return "VDVAE"

    @property
    def encoder(self) -> list[EncoderLayer]:
        """The encoder's blocks in order."""
        return encoder_layers(self.enc_blocks, self.image_size)

    @property
    def decoder(self) -> list[DecoderLayer]:
        """The decoder's blocks in order."""
        return decoder_layers(self.dec_blocks, {self.image_size, *(layer.output for layer in self.encoder)})

    @property
    def bias_resolutions(self) -> list[int]:
        """Resolutions at which the decoder's state starts from learnt values, ascending."""
        return sorted({layer.resolution for layer in self.decoder if layer.resolution <= self.no_bias_above})

    @property
    def block_sides(self) -> list[int]:
        """Sides of the encoder's blocks, then of the decoder's."""
        return [layer.output for layer in self.encoder] + [layer.resolution for layer in self.decoder]

    @property
    def block_channels(self) -> list[int]:
        return [self.width] * len(self.block_sides)

    @property
    def peak_values(self) -> int:
        """Values in memory at the peak: in the last block the decoder's state, the encoder's map, both concatenated,
        and copies."""
        return 8 * self.width * self.image_size**2

    def published_features(self) -> FeatureConfig:
        """The last block of each resolution in encoder and decoder. (Our choice, as no published one is known.)"""
        depth = len(self.encoder)
        last = {(index < depth, side): index for index, side in enumerate(self.block_sides)}
        return FeatureConfig(steps=(), blocks=tuple(sorted(last.values())))

    def preprocess(self, images: NDArray[np.uint8], device: torch.device | str) -> Tensor:
        return to_standard(images, device, shift=self.shift, deviation=self.deviation)

    def build(self) -> VDVAE:
        return VDVAE(self)


class VDVAE(nn.Module):
    """Encoder and decoder without the parts that only draw images; module names are the published ones."""

    def __init__(self, config: VDVAEConfig) -> None:
        super().__init__()
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def activations(self, x: Tensor, blocks: Collection[int]) -> list[Tensor]:
        """Outputs (N, C, r, r) of `blocks`, ascending, for `x` (N, 3, S, S) from `VDVAEConfig.preprocess`.

        The encoder's E blocks come first, then the decoder's. Computes nothing after the last block.
        """
        depth = len(self.encoder.enc_blocks)
        of_encoder = {block for block in blocks if block < depth}
        of_decoder = {block - depth for block in blocks if block >= depth}
        layers = self.decoder.layers[: max(of_decoder, default=-1) + 1]
        handed_on = {layer.resolution for layer in layers}
        kept, last_maps = self.encoder(x, of_encoder, handed_on)
        return kept + self.decoder(last_maps, of_decoder)


class Encoder(nn.Module):
    def __init__(self, config: VDVAEConfig) -> None:
        super().__init__()
        self.layers = config.encoder
        self.in_conv = nn.Conv2d(3, config.width, 3, padding=1)
        self.enc_blocks = nn.ModuleList(
            Bottleneck(config.width, config.inner_width, config.width, layer.resolution) for layer in self.layers
        )

    def forward(
        self, x: Tensor, wanted: Collection[int], handed_on: Collection[int]
    ) -> tuple[list[Tensor], dict[int, Tensor]]:
        """Outputs of the blocks `wanted`, and the last map of each resolution in `handed_on`, which the decoder
        reads."""
        h = self.in_conv(x)
        kept = []
        last_maps = {h.shape[-1]: h} if h.shape[-1] in handed_on else {}
        depth = len(self.layers) if handed_on else max(wanted) + 1
        for index, (layer, block) in enumerate(zip(self.layers[:depth], self.enc_blocks[:depth], strict=True)):
            h = h + block(h)
            if layer.pool > 1:
                h = F.avg_pool2d(h, layer.pool)
            if index in wanted:
                kept.append(h)
            if layer.output in handed_on:
                last_maps[layer.output] = h
        return kept, last_maps


class Decoder(nn.Module):
    def __init__(self, config: VDVAEConfig) -> None:
        super().__init__()
        self.layers = config.decoder
        self.dec_blocks = nn.ModuleList(DecoderBlock(config, layer.resolution) for layer in self.layers)
        self.bias_xs = nn.ParameterList(
            torch.zeros(1, config.width, resolution, resolution) for resolution in config.bias_resolutions
        )

    def forward(self, encoded: dict[int, Tensor], wanted: Collection[int]) -> list[Tensor]:
        """Outputs of the blocks `wanted`; `encoded` holds the encoder's last map of each resolution, and is emptied."""
        kept = []
        states = {bias.shape[-1]: bias for bias in self.bias_xs}
        last = max(wanted, default=-1)
        for index, ((resolution, mixin), block) in enumerate(zip(self.layers, self.dec_blocks, strict=True)):
            if index > last:
                break
            map_NCrr = encoded[resolution]
            h = states[resolution].expand_as(map_NCrr) if resolution in states else torch.zeros_like(map_NCrr)
            if mixin is not None:
                h = h + F.interpolate(states[mixin], scale_factor=resolution // mixin)
            h = states[resolution] = block(h, map_NCrr)
            if index in wanted:
                kept.append(h)
            _drop_unread(encoded, states, self.layers[index + 1 : last + 1])
        return kept


def _drop_unread(encoded: dict[int, Tensor], states: dict[int, Tensor], to_come: Iterable[DecoderLayer]) -> None:
    """Drops the maps that none of the layers `to_come` reads."""
    resolutions = {layer.resolution for layer in to_come}
    mixed_in = {layer.mixin for layer in to_come}
    for resolution in encoded.keys() - resolutions:
        del encoded[resolution]
    for resolution in states.keys() - resolutions - mixed_in:
        del states[resolution]


class DecoderBlock(nn.Module):
    """Updates the state from the latent. Of posterior and prior it has only what the latent's mean needs."""

    def __init__(self, config: VDVAEConfig, resolution: int) -> None:
        super().__init__()
        width, inner = config.width, config.inner_width
        self.enc = Bottleneck(2 * width, inner, config.zdim, resolution)
        self.prior = Bottleneck(width, inner, width, resolution)
        self.z_proj = nn.Conv2d(config.zdim, width, 1)
        self.resnet = Bottleneck(width, inner, width, resolution)

    def forward(self, h: Tensor, encoded: Tensor) -> Tensor:
        """The next state, from the state and the encoder's map, all (N, C, r, r)."""
        z = self.enc(torch.cat([h, encoded], dim=1))
        h = h + self.prior(h) + self.z_proj(z)
        return h + self.resnet(h)


class Bottleneck(nn.Module):
    """Four convolutions with a GELU before each; those in the middle see neighbours if the map is large enough."""

    def __init__(self, entering: int, inner: int, leaving: int, resolution: int) -> None:
        super().__init__()
        kernel = kernel_size(resolution)
        self.c1 = nn.Conv2d(entering, inner, 1)
        self.c2 = nn.Conv2d(inner, inner, kernel, padding=kernel // 2)
        self.c3 = nn.Conv2d(inner, inner, kernel, padding=kernel // 2)
        self.c4 = nn.Conv2d(inner, leaving, 1)

    def forward(self, h: Tensor) -> Tensor:
        for conv in (self.c1, self.c2, self.c3, self.c4):
            h = conv(F.gelu(h))
        return h
