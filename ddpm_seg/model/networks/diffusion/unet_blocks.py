"""The layers of the guided-diffusion UNet, named so that published state dicts load unchanged."""

# Shapes: N images, C channels, H x W pixels, E embedding size, T = H * W positions.

from __future__ import annotations

from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_seg.model.kernels.checked import UNetKernels, unet_kernels

M = TypeVar("M", bound=nn.Module)


class GroupNorm(nn.GroupNorm):
    """32 groups, computed in float32 whatever the activations' type, as in the published network."""

    def __init__(self, channels: int) -> None:
        super().__init__(32, channels)

    def forward(self, x: Tensor, emb_N2C: Tensor | None = None, *, silu: bool = False) -> Tensor:
        """The norm in the type of `x`; then, if given, scales and shifts by `emb_N2C`, and SiLU."""
        if kernels := unet_kernels(x):
            return kernels.group_norm(x, self.weight, self.bias, self.num_groups, self.eps, emb_N2C, silu=silu)
        y = super().forward(x.float()).to(x.dtype)
        if emb_N2C is not None:
            scale, shift = emb_N2C.to(y.dtype)[:, :, None, None].chunk(2, dim=1)
            y = torch.addcmul(shift, y, 1 + scale)
        return F.silu(y) if silu else y


class ResBlock(nn.Module):
    """Residual block conditioned on the timestep; `resample` "up" or "down" changes the resolution by 2."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        embedding: int,
        scale_shift: bool,
        dropout: float,
        resample: Literal["up", "down"] | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = resample
        self.in_layers = nn.Sequential(
            GroupNorm(in_channels), nn.SiLU(), nn.Conv2d(in_channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, (2 if scale_shift else 1) * out_channels))
        self.out_layers = nn.Sequential(
            GroupNorm(out_channels),
            nn.SiLU(),
            nn.Dropout(dropout),
            zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, emb_NE: Tensor) -> Tensor:
        if kernels := unet_kernels(x):
            return self._fused(x, self.emb_layers(emb_NE), kernels)
        h = self.in_layers[0](x, silu=True)
        if self.resample is not None:
            h, x = _resample(h, self.resample), _resample(x, self.resample)
        h = self.in_layers[2](h)
        emb = self.emb_layers(emb_NE)
        if self.scale_shift:
            h = self.out_layers[0](h, emb, silu=True)
        else:
            h = self.out_layers[0](h + emb.to(h.dtype)[:, :, None, None], silu=True)
        return self.skip_connection(x) + self.out_layers[3](self.out_layers[2](h))

    def _fused(self, x: Tensor, emb: Tensor, kernels: UNetKernels) -> Tensor:
        """The same for inference, where the convolutions' biases join the pass that follows."""
        h = self.in_layers[0](x, silu=True)
        if self.resample is not None:
            h, x = kernels.resample(h, self.resample), kernels.resample(x, self.resample)
        first: Any = self.in_layers[2]
        norm: Any = self.out_layers[0]
        last: Any = self.out_layers[3]
        skip = self.skip_connection
        before = first.bias.expand(len(x), -1) if self.scale_shift else first.bias + emb
        h = kernels.group_norm(
            F.conv2d(h, first.weight, padding=1), norm.weight, norm.bias, norm.num_groups, norm.eps,
            emb if self.scale_shift else None, silu=True, before_NC=before,
        )  # fmt: skip
        bias = last.bias.float()
        if isinstance(skip, nn.Conv2d):
            x, bias = F.conv2d(x, skip.weight), bias + skip.bias
        return kernels.add(x, F.conv2d(h, last.weight, padding=1), bias)


class AttentionBlock(nn.Module):
    """Self-attention over positions, with a residual. `new_order` splits q, k, v before the heads instead of after."""

    def __init__(self, channels: int, heads: int, *, new_order: bool) -> None:
        super().__init__()
        self.heads, self.new_order = heads, new_order
        self.norm = GroupNorm(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor, emb_NE: Tensor) -> Tensor:
        n, c, h, w = x.shape
        # As 2D convolutions, which keep activations channels-last, so that no head has to be copied together.
        qkv = F.conv2d(self.norm(x), self.qkv.weight[..., None], self.qkv.bias).flatten(2)
        if self.new_order:
            q, k, v = qkv.reshape(n, 3, self.heads, c // self.heads, h * w).transpose(-1, -2).unbind(1)
        else:
            q, k, v = qkv.reshape(n, self.heads, 3, c // self.heads, h * w).transpose(-1, -2).unbind(2)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h, w, c).permute(0, 3, 1, 2)
        return x + F.conv2d(attended, self.proj_out.weight[..., None], self.proj_out.bias)


class Downsample(nn.Module):
    """Strided convolution, used if `resblock_updown` is off."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, emb_NE: Tensor) -> Tensor:
        return self.op(x)


class Upsample(nn.Module):
    """Nearest-neighbour doubling and a convolution, used if `resblock_updown` is off."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, emb_NE: Tensor) -> Tensor:
        return self.conv(_resample(x, "up"))


class Stem(nn.Conv2d):
    """First convolution; takes and ignores the embedding, so that all layers are called in the same way."""

    def forward(self, x: Tensor, emb_NE: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class Block(nn.Sequential):
    """Layers applied in turn, each with the timestep embedding."""

    def forward(self, x: Tensor, emb_NE: Tensor) -> Tensor:  # type: ignore[override]
        for layer in self:
            x = layer(x, emb_NE)
        return x


def _resample(x: Tensor, direction: Literal["up", "down"]) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest") if direction == "up" else F.avg_pool2d(x, 2)


def zeroed(module: M) -> M:
    """Zero weights, so that a new residual branch starts as the identity (guided-diffusion's `zero_module`)."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
