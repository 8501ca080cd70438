"""The layers of StyleGAN2 (Karras et al., CVPR 2020), named as in rosinality/stylegan2-pytorch."""

# Shapes: N samples, W code width, I and O channels entering and leaving a layer, h x w pixels.

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-8
MAPPING_RATE = 0.01
"""Learning rate multiplier of the mapping network: its stored weights are 1 / 0.01 times as large."""
BLUR_TAPS = (1.0, 3.0, 3.0, 1.0)


def lrelu(x: Tensor) -> Tensor:
    """Leaky ReLU that keeps the variance."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def blur_kernel(x: Tensor) -> Tensor:
    """(4, 4): the low-pass filter of every upsampling, times 4 for the zeros in between; of the type of `x`."""
    taps = torch.tensor(BLUR_TAPS, dtype=x.dtype, device=x.device)
    return taps[:, None] * taps / 16


class Mapping(nn.Sequential):
    """Latents (N, Z) to codes (N, W)."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        """`widths`: of the latent, and of what each layer gives."""
        # rosinality counts its normalisation as layer 0.
        super().__init__(nn.Identity(), *map(_Dense, widths[:-1], widths[1:]))

    def forward(self, z_NZ: Tensor) -> Tensor:
        x = z_NZ * (z_NZ.square().mean(dim=1, keepdim=True) + EPS).rsqrt()
        return super().forward(x)


class _Dense(nn.Module):
    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(leaving, entering) / MAPPING_RATE)
        self.bias = nn.Parameter(torch.zeros(leaving))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight * (MAPPING_RATE / math.sqrt(x.shape[1]))
        return lrelu(F.linear(x, weight, self.bias * MAPPING_RATE))


class _Modulation(nn.Module):
    """A code (N, W) to the scale of every entering channel (N, I)."""

    def __init__(self, code_width: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(channels, code_width))
        self.bias = nn.Parameter(torch.ones(channels))

    def forward(self, code_NW: Tensor) -> Tensor:
        return F.linear(code_NW, self.weight / math.sqrt(code_NW.shape[1]), self.bias)


class ModulatedConv(nn.Module):
    """A convolution whose weights each sample scales by its own code.

    It scales what enters and what leaves instead, so that one set of weights serves all samples: the same but for
    rounding. Scales are float32, whatever type the convolution runs in.
    """

    def __init__(
        self,
        entering: int,
        leaving: int,
        code_width: int,
        *,
        kernel: int = 3,
        demodulate: bool = True,
        up: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, leaving, entering, kernel, kernel))
        self.modulation = _Modulation(code_width, entering)
        self.demodulate, self.up = demodulate, up

    def forward(self, x: Tensor, code_NW: Tensor) -> Tensor:
        """x (N, I, h, w) to (N, O, h, w), or twice the side."""
        weight_OIkk = self.weight[0] / math.sqrt(self.weight[0, 0].numel())
        entering_NI = self.modulation(code_NW)
        leaving_NO = None
        if self.demodulate:
            power_OI = weight_OIkk.float().square().sum(dim=(2, 3))
            leaving_NO = (F.linear(entering_NI.square(), power_OI) + EPS).rsqrt()
            # Nothing overflows in float16 where no scale that enters is above 1: the rest of it leaves.
            most_N1 = entering_NI.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
            entering_NI, leaving_NO = entering_NI / most_N1, leaving_NO * most_N1
        x = x * entering_NI.to(x.dtype)[:, :, None, None]
        x = _upsampling_conv(x, weight_OIkk) if self.up else _conv(x, weight_OIkk)
        return x if leaving_NO is None else x * leaving_NO.to(x.dtype)[:, :, None, None]


def _conv(x: Tensor, weight_OIkk: Tensor) -> Tensor:
    """(N, I, h, w) to (N, O, h, w)."""
    if weight_OIkk.shape[2] > 1:
        return F.conv2d(x, weight_OIkk, padding=weight_OIkk.shape[2] // 2)
    # On CPUs the sums of a 1 x 1 convolution depend on the number of threads, and a sample's bytes must not.
    return (weight_OIkk[:, :, 0, 0] @ x.flatten(2)).unflatten(2, x.shape[2:])


def _upsampling_conv(x: Tensor, weight_OIkk: Tensor) -> Tensor:
    """(N, I, h, w) to (N, O, 2h, 2w): a transposed convolution, then the blur."""
    x = F.conv_transpose2d(x, weight_OIkk.transpose(0, 1), stride=2)
    channels = x.shape[1]
    return F.conv2d(x, blur_kernel(x).expand(channels, 1, 4, 4), padding=1, groups=channels)


class _Noise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))


class _Activate(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))


class Layer(nn.Module):
    """A modulated 3 x 3 convolution, noise, bias and activation."""

    def __init__(self, entering: int, leaving: int, code_width: int, *, up: bool, clamp: float | None) -> None:
        super().__init__()
        self.conv = ModulatedConv(entering, leaving, code_width, up=up)
        self.noise, self.activate, self.clamp = _Noise(), _Activate(leaving), clamp

    def forward(self, x: Tensor, code_NW: Tensor, noise: Tensor) -> Tensor:
        """x (N, I, h, w) to (N, O, h, w), or twice the side; `noise` (1, 1, h, w) is the same for all of them."""
        x = self.conv(x, code_NW)
        added = self.noise.weight * noise + self.activate.bias[:, None, None]
        return _clamped(lrelu(x + added.to(x.dtype)), self.clamp)


class ToRGB(nn.Module):
    """A layer's share of the picture, added to that of the resolutions below."""

    def __init__(self, entering: int, code_width: int, *, clamp: float | None) -> None:
        super().__init__()
        self.conv = ModulatedConv(entering, 3, code_width, kernel=1, demodulate=False)
        self.bias, self.clamp = nn.Parameter(torch.zeros(1, 3, 1, 1)), clamp

    def forward(self, x: Tensor, code_NW: Tensor, below: Tensor | None) -> Tensor:
        """x (N, I, h, w) and the picture `below` (N, 3, h / 2, w / 2) to (N, 3, h, w) float32."""
        picture = _clamped(self.conv(x, code_NW).float() + self.bias, self.clamp)
        return picture if below is None else picture + _upsampled(below)


def _upsampled(picture: Tensor) -> Tensor:
    """(N, 3, h, w) to (N, 3, 2h, 2w): zeros in between, then the blur."""
    kernel = blur_kernel(picture).expand(3, 1, 4, 4)
    return F.conv_transpose2d(picture, kernel, stride=2, padding=1, groups=3)


def _clamped(x: Tensor, most: float | None) -> Tensor:
    return x if most is None else x.clamp(-most, most)
