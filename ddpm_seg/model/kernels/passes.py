"""Sums with a bias, and resampling, in one pass over channels-last activations where PyTorch takes several."""

# Shapes: N images, P pixels, C channels.

from __future__ import annotations

from typing import Literal

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 16, 128
"""Pixels and channels that a program holds."""


def add(x_NCHW: Tensor, y_NCHW: Tensor, bias_C: Tensor) -> Tensor:
    """x + y + bias, in the type of `x_NCHW`, summed in float32; channels-last."""
    x, y = (one.contiguous(memory_format=torch.channels_last) for one in (x_NCHW, y_NCHW))
    out, channels = torch.empty_like(x), x.shape[1]
    pixels = x.numel() // channels
    grid = triton.cdiv(pixels, ROWS), triton.cdiv(channels, COLUMNS)
    _add[grid](x, y, bias_C, out, pixels, channels, ROWS=ROWS, COLUMNS=COLUMNS)
    return out


def resample(x_NCHW: Tensor, direction: Literal["up", "down"]) -> Tensor:
    """ "up": twice the sides, each pixel repeated. "down": half the sides, means of 2 x 2 pixels. Channels-last."""
    x = x_NCHW.contiguous(memory_format=torch.channels_last)
    n, channels, height, width = x.shape
    up = direction == "up"
    sides = (2 * height, 2 * width) if up else (height // 2, width // 2)
    out = torch.empty(n, channels, *sides, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    small = (height, width) if up else sides
    pixels = n * small[0] * small[1]
    grid = triton.cdiv(pixels, ROWS), triton.cdiv(channels, COLUMNS)
    _resample[grid](x, out, pixels, channels, small[1], UP=up, ROWS=ROWS, COLUMNS=COLUMNS)
    return out


@triton.jit
def _add(x_PC, y_PC, bias_C, out_PC, pixels, channels, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = channel < channels
    valid = (row < pixels)[:, None] & inside[None, :]
    place = row[:, None] * channels + channel[None, :]
    total = tl.load(x_PC + place, mask=valid, other=0.0).to(tl.float32)
    total += tl.load(y_PC + place, mask=valid, other=0.0).to(tl.float32)
    total += tl.load(bias_C + channel, mask=inside, other=0.0).to(tl.float32)[None, :]
    tl.store(out_PC + place, total.to(out_PC.dtype.element_ty), mask=valid)


@triton.jit
def _resample(x, out, pixels, channels, width, UP: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """`pixels` and `width` are those of the smaller images; each of their pixels has four in the larger ones."""
    small = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    valid = (small < pixels)[:, None] & (channel < channels)[None, :]
    # All images' rows are numbered through: row r of the smaller ones is rows 2r and 2r + 1 of the larger ones.
    large = (small // width * 2 * (2 * width) + small % width * 2)[:, None] * channels + channel[None, :]
    place = small[:, None] * channels + channel[None, :]
    below = 2 * width * channels
    if UP:
        value = tl.load(x + place, mask=valid, other=0.0)
        tl.store(out + large, value, mask=valid)
        tl.store(out + large + channels, value, mask=valid)
        tl.store(out + large + below, value, mask=valid)
        tl.store(out + large + below + channels, value, mask=valid)
    else:
        total = tl.load(x + large, mask=valid, other=0.0).to(tl.float32)
        total += tl.load(x + large + channels, mask=valid, other=0.0).to(tl.float32)
        total += tl.load(x + large + below, mask=valid, other=0.0).to(tl.float32)
        total += tl.load(x + large + below + channels, mask=valid, other=0.0).to(tl.float32)
        tl.store(out + place, (total * 0.25).to(out.dtype.element_ty), mask=valid)
