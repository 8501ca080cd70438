"""The first StyleGAN's generator (Karras et al., CVPR 2019), named as in DatasetGAN's code."""

# Shapes: N samples, Z latent width, W code width, L resolutions (4, 8, ... pixels), R = 2L code rows, C channels.

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_seg.model.networks.style.stylegan2_generator import SMALLEST, map_sides
from ddpm_seg.model.networks.style.stylegan2_layers import EPS, MAPPING_RATE

FUSED_FROM = 128
"""Side from which on upsampling and convolution are one operation."""
BLUR_TAPS = (1.0, 2.0, 1.0)


def blur_kernel(x: Tensor) -> Tensor:
    """(3, 3): the low-pass filter after every upsampling; of the type of `x`."""
    taps = torch.tensor(BLUR_TAPS, dtype=x.dtype, device=x.device)
    return taps[:, None] * taps / 16


class StyleGAN(nn.Module):
    """A generator: latents to codes, and codes to a picture and its maps."""

    avg_latent: Tensor
    """(R, W): the mean code, of every row."""

    def __init__(self, channels: tuple[int, ...], mapping: tuple[int, ...], image_size: int) -> None:
        super().__init__()
        width = mapping[-1]
        self.g_mapping = _Mapping(mapping)
        self.g_synthesis = _Synthesis(channels, width)
        self.noises = nn.Module()
        for number, side in enumerate(map_sides(channels)):
            self.noises.register_buffer(f"noise_{number}", torch.randn(1, 1, side, side))
        self.register_buffer("avg_latent", torch.zeros(2 * len(channels), width))
        self.latent_width, self.reduction = mapping[0], map_sides(channels)[-1] // image_size

    def codes(self, z_NZ: Tensor, truncation: float) -> Tensor:
        """Latents to codes (N, R, W); the rows of coarse layers are drawn towards the mean where `truncation` is below
        1."""
        codes_NRW = self.g_mapping(z_NZ)[:, None].expand(-1, len(self.avg_latent), -1)
        rows = truncated_rows(SMALLEST * 2 ** (len(self.avg_latent) // 2 - 1))
        drawn = torch.lerp(self.avg_latent[:rows], codes_NRW[:, :rows], truncation)
        return torch.cat([drawn, codes_NRW[:, rows:]], dim=1)

    def forward(self, codes_NRW: Tensor, blocks: Collection[int] = ()) -> tuple[Tensor, list[Tensor]]:
        """The picture (N, 3, S, S) float32, about in [-1, 1], and the maps of `blocks`, ascending.

        Maps 2l and 2l + 1 are those of resolution l: what it gives, and its second convolution before noise and style.
        """
        noises = list(self.noises.buffers())
        kept, x = [], None
        for level, block in enumerate(self.g_synthesis.blocks.values()):
            rows = slice(2 * level, 2 * level + 2)
            x, raw = block(x, codes_NRW[:, rows], noises[rows])
            kept += [one for number, one in ((2 * level, x), (2 * level + 1, raw)) if number in blocks]
        assert x is not None  # there is at least one resolution
        picture = self.g_synthesis.torgb(x.float())
        return F.avg_pool2d(picture, self.reduction) if self.reduction > 1 else picture, kept

    def cast_convolutions(self, dtype: torch.dtype) -> None:
        """Sets the type that convolutions run in; styles and noise stay float32, and the layer to RGB."""
        for block in self.g_synthesis.blocks.values():
            for module in block.modules():
                if isinstance(module, _Conv):
                    module.weight.data = module.weight.data.to(dtype)


def truncated_rows(side: int) -> int:
    """Code rows that truncation changes: DatasetGAN's, of a generator of that side."""
    return 7 if side <= 256 else 8


class _Mapping(nn.Sequential):
    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        for index, (entering, leaving) in enumerate(pairwise(widths)):
            self.add_module(f"dense{index}", _Linear(entering, leaving, math.sqrt(2), MAPPING_RATE))

    def forward(self, z_NZ: Tensor) -> Tensor:
        x = z_NZ * (z_NZ.square().mean(dim=1, keepdim=True) + EPS).rsqrt()
        for dense in self:
            x = F.leaky_relu(dense(x), 0.2)
        return x


class _Linear(nn.Module):
    def __init__(self, entering: int, leaving: int, gain: float = 1.0, rate: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(leaving, entering) / rate)
        self.bias = nn.Parameter(torch.zeros(leaving))
        self.scale, self.rate = gain * rate / math.sqrt(entering), rate

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * self.scale, self.bias * self.rate)


class _Conv(nn.Module):
    def __init__(self, entering: int, leaving: int, *, kernel: int = 3, gain: float = math.sqrt(2)) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(leaving, entering, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(leaving))
        self.scale = gain / math.sqrt(entering * kernel**2)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.scale, self.bias.to(x.dtype), padding=self.weight.shape[2] // 2)


class _UpConv(_Conv):
    """(N, I, h, w) to (N, O, 2h, 2w): enlarged, convolved, blurred."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * self.scale
        if 2 * x.shape[2] >= FUSED_FROM:
            spread = F.pad(weight, (1, 1, 1, 1))
            weight = spread[:, :, 1:, 1:] + spread[:, :, :-1, 1:] + spread[:, :, 1:, :-1] + spread[:, :, :-1, :-1]
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2, padding=1)
        else:
            x = F.conv2d(F.interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)
        channels = x.shape[1]
        x = F.conv2d(x, blur_kernel(x).expand(channels, 1, 3, 3), padding=1, groups=channels)
        return x + self.bias.to(x.dtype)[:, None, None]


class _Noise(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels))


class _Epilogue(nn.Module):
    """Noise, activation, normalisation and style after a convolution."""

    def __init__(self, channels: int, code_width: int) -> None:
        super().__init__()
        self.top_epi = nn.ModuleDict({"noise": _Noise(channels)})
        self.style_mod = nn.ModuleDict({"lin": _Linear(code_width, 2 * channels)})

    def forward(self, x: Tensor, code_NW: Tensor, noise: Tensor) -> Tensor:
        weight: Any = self.top_epi["noise"].weight
        x = F.leaky_relu(x.float() + weight[:, None, None] * noise, 0.2)
        scale, shift = self.style_mod["lin"](code_NW)[:, :, None, None].chunk(2, dim=1)
        return F.instance_norm(x) * (scale + 1) + shift


class _Block(nn.Module):
    """One resolution; the first one begins with a constant."""

    def __init__(self, entering: int | None, channels: int, code_width: int) -> None:
        super().__init__()
        self.first = entering is None
        if entering is None:
            self.const = nn.Parameter(torch.ones(1, channels, SMALLEST, SMALLEST))
            self.bias = nn.Parameter(torch.zeros(channels))
            self.conv = _Conv(channels, channels)
        else:
            self.conv0_up = _UpConv(entering, channels)
            self.conv1 = _Conv(channels, channels)
        self.epi1, self.epi2 = _Epilogue(channels, code_width), _Epilogue(channels, code_width)

    def forward(self, x: Tensor | None, codes_N2W: Tensor, noises: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        second = self.conv if self.first else self.conv1
        dtype = second.weight.dtype
        if x is None:
            h = (self.const + self.bias[:, None, None]).expand(len(codes_N2W), -1, -1, -1)
        else:
            h = self.conv0_up(x)
        raw = second(self.epi1(h, codes_N2W[:, 0], noises[0]).to(dtype))
        return self.epi2(raw, codes_N2W[:, 1], noises[1]).to(dtype), raw


class _Synthesis(nn.Module):
    def __init__(self, channels: tuple[int, ...], code_width: int) -> None:
        super().__init__()
        self.torgb = _Conv(channels[-1], 3, kernel=1, gain=1.0)
        entering: list[int | None] = [None, *channels[:-1]]
        self.blocks = nn.ModuleDict(
            {
                f"{side}x{side}": _Block(before, own, code_width)
                for side, before, own in zip(_sides(channels), entering, channels, strict=True)
            }
        )


def _sides(channels: Sequence[int]) -> Iterator[int]:
    return (SMALLEST * 2**level for level in range(len(channels)))
