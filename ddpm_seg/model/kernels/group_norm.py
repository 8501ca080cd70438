"""Group normalisation (Wu & He, 2018, equations 1 and 7) of channels-last activations, with what follows it in the UNet.

    y = act((x - mean) / sqrt(variance + eps) * weight + bias) * (1 + scale) + shift)

PyTorch's own kernel copies the activations to another layout and back, and its type, the scale and SiLU each take a
pass over memory more. Here the activations are read twice and written once.

Means and variances of tiles are merged exactly, without sums of squares (Chan et al., 1983, equation 2.1), in an order
that depends only on the shape.
"""

# Shapes: N images, P pixels, C channels in G groups, T tiles of an image.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 32, 64
"""Pixels and channels that a program holds at once."""
TILE_PIXELS = 1024
"""Pixels whose mean and variance one program finds."""


def group_norm(
    x_NCHW: Tensor, weight_C: Tensor, bias_C: Tensor, groups: int, eps: float, emb_N2C: Tensor | None, *, silu: bool
) -> Tensor:
    """The norm of `x_NCHW`, on a GPU, in its type, computed in float32; channels-last.

    `emb_N2C` holds scales, then shifts.
    """
    x_NCHW = x_NCHW.contiguous(memory_format=torch.channels_last)
    n, channels, height, width = x_NCHW.shape
    pixels = height * width
    out = torch.empty_like(x_NCHW)
    tiles = triton.cdiv(pixels, TILE_PIXELS)
    moments = torch.empty(2, n, tiles, channels, dtype=torch.float32, device=x_NCHW.device)
    statistics = torch.empty(2, n, groups, dtype=torch.float32, device=x_NCHW.device)
    columns = triton.cdiv(channels, COLUMNS)
    _tile_moments[n * tiles, columns](
        x_NCHW, moments, pixels, channels, n * tiles * channels, tiles, TILE=TILE_PIXELS, ROWS=ROWS, COLUMNS=COLUMNS
    )
    size = channels // groups
    _group_moments[n * groups,](
        moments, statistics, pixels, channels, n * tiles * channels, n * groups, tiles, eps,
        GROUPS=groups, SIZE=size, TILE=TILE_PIXELS, TILES=triton.next_power_of_2(tiles),
        CHANNELS=triton.next_power_of_2(size),
    )  # fmt: skip
    _normalise[n * triton.cdiv(pixels, ROWS), columns](
        x_NCHW, out, statistics, weight_C, bias_C, emb_N2C, pixels, channels, n * groups,
        GROUPS=groups, SIZE=size, SCALED=emb_N2C is not None, SILU=silu, ROWS=ROWS, COLUMNS=COLUMNS,
    )  # fmt: skip
    return out


@triton.jit
def _tile_moments(
    x_NPC, moments_2NTC, pixels, channels, half, tiles, TILE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Mean and summed squared deviation of each channel in one tile of one image."""
    image, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    count = 0.0
    mean = tl.zeros([COLUMNS], tl.float32)
    deviation = tl.zeros([COLUMNS], tl.float32)
    for first in range(0, TILE, ROWS):
        row = tile * TILE + first + tl.arange(0, ROWS)
        valid = (row < pixels)[:, None] & (channel < channels)[None, :]
        place = (image.to(tl.int64) * pixels + row)[:, None] * channels + channel[None, :]
        x = tl.load(x_NPC + place, mask=valid, other=0.0).to(tl.float32)
        more = tl.minimum(tl.maximum(pixels - tile * TILE - first, 0), ROWS).to(tl.float32)
        mean_here = tl.sum(x, axis=0) / tl.maximum(more, 1.0)
        from_mean = tl.where(valid, x - mean_here[None, :], 0.0)
        total = tl.maximum(count + more, 1.0)
        delta = mean_here - mean
        mean += delta * (more / total)
        deviation += tl.sum(from_mean * from_mean, axis=0) + delta * delta * (count * more / total)
        count += more
    place = tl.program_id(0).to(tl.int64) * channels + channel
    tl.store(moments_2NTC + place, mean, mask=channel < channels)
    tl.store(moments_2NTC + half + place, deviation, mask=channel < channels)


@triton.jit
def _group_moments(
    moments_2NTC,
    statistics_2NG,
    pixels,
    channels,
    half,
    all_groups,
    tiles,
    eps,
    GROUPS: tl.constexpr,
    SIZE: tl.constexpr,
    TILE: tl.constexpr,
    TILES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Mean and 1 / sqrt(variance + eps) of one group of one image."""
    image, group = tl.program_id(0) // GROUPS, tl.program_id(0) % GROUPS
    tile, channel = tl.arange(0, TILES), tl.arange(0, CHANNELS)
    valid = (tile < tiles)[:, None] & (channel < SIZE)[None, :]
    place = (image.to(tl.int64) * tiles + tile)[:, None] * channels + (group * SIZE + channel)[None, :]
    means = tl.load(moments_2NTC + place, mask=valid, other=0.0)
    deviations = tl.load(moments_2NTC + half + place, mask=valid, other=0.0)
    counts = tl.where(valid, tl.minimum(pixels - tile * TILE, TILE)[:, None].to(tl.float32), 0.0)
    count = pixels * SIZE * 1.0
    mean = tl.sum(tl.sum(means * (counts / count), axis=1), axis=0)
    apart = means - mean
    variance = tl.sum(tl.sum((deviations + counts * apart * apart) / count, axis=1), axis=0)
    tl.store(statistics_2NG + tl.program_id(0), mean)
    tl.store(statistics_2NG + all_groups + tl.program_id(0), 1.0 / tl.sqrt(variance + eps))


@triton.jit
def _normalise(
    x_NPC,
    out_NPC,
    statistics_2NG,
    weight_C,
    bias_C,
    emb_N2C,
    pixels,
    channels,
    all_groups,
    GROUPS: tl.constexpr,
    SIZE: tl.constexpr,
    SCALED: tl.constexpr,
    SILU: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    blocks = tl.cdiv(pixels, ROWS)
    image, row = tl.program_id(0) // blocks, (tl.program_id(0) % blocks) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = channel < channels
    group = image * GROUPS + channel // SIZE
    factor = tl.load(statistics_2NG + all_groups + group, mask=inside, other=0.0)
    factor *= tl.load(weight_C + channel, mask=inside, other=0.0)
    offset = tl.load(bias_C + channel, mask=inside, other=0.0)
    offset -= tl.load(statistics_2NG + group, mask=inside, other=0.0) * factor
    if SCALED:
        emb = emb_N2C + image * 2 * channels + channel
        scale = 1.0 + tl.load(emb, mask=inside, other=0.0).to(tl.float32)
        factor, offset = factor * scale, offset * scale + tl.load(emb + channels, mask=inside, other=0.0).to(tl.float32)
    valid = (row < pixels)[:, None] & inside[None, :]
    place = (image.to(tl.int64) * pixels + row)[:, None] * channels + channel[None, :]
    y = tl.load(x_NPC + place, mask=valid, other=0.0).to(tl.float32) * factor[None, :] + offset[None, :]
    if SILU:
        y = y / (1.0 + tl.exp(-y))
    tl.store(out_NPC + place, y.to(out_NPC.dtype.element_ty), mask=valid)
