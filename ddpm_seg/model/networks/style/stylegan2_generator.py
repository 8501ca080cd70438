"""The generator of StyleGAN2: codes in, the maps that DatasetGAN reads and a picture out."""

# Shapes: N samples, Z latent width, W code width, L resolutions (4, 8, ... pixels), R = 2L code rows. Map m of 2L is
# 4 * 2^(m // 2) pixels wide.

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_seg.model.limits import MAX_CHANNELS, MAX_DEPTH, MAX_IMAGE_SIZE, MAX_LEVELS, check_range
from ddpm_seg.model.networks.style.stylegan2_layers import Layer, Mapping, ModulatedConv, ToRGB

SMALLEST = 4


def check_generator(channels: tuple[int, ...], conv_clamp: float | None) -> None:
    """Raises ValueError for a generator that cannot exist."""
    check_range("resolutions of the generator", len(channels), MAX_LEVELS)
    check_range("side of the generator's pictures", SMALLEST * 2 ** (len(channels) - 1), MAX_IMAGE_SIZE)
    for width in channels:
        check_range("channels", width, MAX_CHANNELS)
    if conv_clamp is not None and not conv_clamp > 0:
        raise ValueError(f"conv_clamp must be greater than 0, got {conv_clamp}")


def check_mapping(widths: tuple[int, ...]) -> None:
    """Raises ValueError for a mapping network that cannot exist."""
    check_range("layers of the mapping network", len(widths) - 1, MAX_DEPTH)
    for width in widths:
        check_range("mapping", width, MAX_CHANNELS)


def check_image_size(image_size: int, channels: tuple[int, ...]) -> None:
    """Raises ValueError for images that a generator does not draw."""
    sides = map_sides(channels)
    if image_size not in sides:
        raise ValueError(
            f"image_size is {image_size}; expected {sides[-1]}, the side of this generator's images, or that halved "
            f"any number of times, down to {SMALLEST}"
        )


def map_channels(channels: tuple[int, ...]) -> list[int]:
    """Channels of each map: of the constant input, which has as many as the layer above it, then of each layer."""
    return [width for width in channels for _ in range(2)]


def map_sides(channels: tuple[int, ...]) -> list[int]:
    """Side of each map."""
    return [SMALLEST * 2**level for level in range(len(channels)) for _ in range(2)]


def maps_within(channels: tuple[int, ...], side: int) -> tuple[int, ...]:
    """Numbers of the maps that are at most `side` pixels wide."""
    return tuple(number for number, own in enumerate(map_sides(channels)) if own <= side)


def generator_peak(channels: tuple[int, ...]) -> int:
    """Approximate number of values in memory at the peak: all maps, and four times the largest."""
    sizes = [width * side**2 for width, side in zip(map_channels(channels), map_sides(channels), strict=True)]
    return sum(sizes) + 4 * max(sizes)


class _Constant(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, SMALLEST, SMALLEST))


class StyleMaps(nn.Module):
    """The layers of StyleGAN2 that make maps from codes, without those that make codes or the image."""

    def __init__(self, channels: tuple[int, ...], code_width: int, conv_clamp: float | None) -> None:
        super().__init__()
        self.input = _Constant(channels[0])
        self.conv1 = Layer(channels[0], channels[0], code_width, up=False, clamp=conv_clamp)
        self.convs = nn.ModuleList()
        for entering, leaving in pairwise(channels):
            self.convs.append(Layer(entering, leaving, code_width, up=True, clamp=conv_clamp))
            self.convs.append(Layer(leaving, leaving, code_width, up=False, clamp=conv_clamp))
        self.noises = nn.Module()
        for number, side in enumerate(map_sides(channels)[1:]):
            self.noises.register_buffer(f"noise_{number}", torch.randn(1, 1, side, side))

    def maps(self, codes_NRW: Tensor) -> Iterator[Tensor]:
        """Yields the constant input, then each layer's output, computing each only when it is asked for.

        Layer m, whose output is map m, reads row m - 1 of the codes (float32); later rows may be missing.
        """
        x = self.input.input.to(self.conv1.conv.weight.dtype).expand(len(codes_NRW), -1, -1, -1)
        yield x
        for row, layer in enumerate([self.conv1, *self.convs]):
            x = layer(x, codes_NRW[:, row], self.noises.get_buffer(f"noise_{row}"))
            yield x

    def cast_convolutions(self, dtype: torch.dtype) -> None:
        """Sets the type that convolutions run in; styles and noise stay float32."""
        for module in self.modules():
            if isinstance(module, ModulatedConv):
                module.weight.data = module.weight.data.to(dtype)


class StyleGAN2(StyleMaps):
    """A generator: latents to codes, and codes to an image and its maps."""

    latent_avg: Tensor
    """(W,): the mean code."""

    def __init__(
        self, channels: tuple[int, ...], mapping: tuple[int, ...], conv_clamp: float | None, image_size: int
    ) -> None:
        width = mapping[-1]
        super().__init__(channels, width, conv_clamp)
        self.style = Mapping(mapping)
        first, *others = (ToRGB(entering, width, clamp=conv_clamp) for entering in channels)
        self.to_rgb1, self.to_rgbs = first, nn.ModuleList(others)
        self.register_buffer("latent_avg", torch.zeros(width))
        self.latent_width = mapping[0]
        self.rows, self.reduction = 2 * len(channels), map_sides(channels)[-1] // image_size

    def codes(self, z_NZ: Tensor, truncation: float) -> Tensor:
        """Latents to codes (N, R, W): the same in every row, drawn towards the mean where `truncation` is below 1."""
        w_NW = torch.lerp(self.latent_avg, self.style(z_NZ), truncation)
        return w_NW[:, None].expand(-1, self.rows, -1)

    def forward(self, codes_NRW: Tensor, blocks: Collection[int] = ()) -> tuple[Tensor, list[Tensor]]:
        """The picture (N, 3, S, S) float32, about in [-1, 1], and the maps of `blocks`, ascending.

        A picture smaller than the generator's own is the mean of its pixels.
        """
        kept, picture = [], None
        for number, x in enumerate(self.maps(codes_NRW)):
            if number in blocks:
                kept.append(x)
            if number % 2:
                to_rgb = self.to_rgb1 if picture is None else self.to_rgbs[number // 2 - 1]
                picture = to_rgb(x, codes_NRW[:, number], picture)
        assert picture is not None  # there is at least one resolution
        return F.avg_pool2d(picture, self.reduction) if self.reduction > 1 else picture, kept
