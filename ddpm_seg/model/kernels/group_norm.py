"""Group normalisation (Wu & He, 2018, equations 1 and 7) of channels-last activations, and what follows it in the UNet.

    y = silu(((x - mean) / sqrt(variance + eps) * weight + bias) * (1 + scale) + shift)

PyTorch copies the activations to another layout and back, and passes over memory again for their type, the scale and
SiLU. Here they are read twice and written once.

A program keeps one running mean and variance per row of its block (Welford, 1962), and merges them at the end (Chan et
al., 1983, equation 2.1): no sums of squares, which lose digits, and an order that depends only on the shape.
"""

# Shapes: N images, P pixels, C channels in G groups, T tiles of an image.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, COLUMNS = 16, 128
"""Pixels and channels that a program holds at once."""
TILE_PIXELS = 1024
"""Pixels whose mean and variance one program finds."""


def group_norm(
    x_NCHW: Tensor,
    weight_C: Tensor,
    bias_C: Tensor,
    groups: int,
    eps: float,
    emb_N2C: Tensor | None = None,
    *,
    silu: bool,
    before_NC: Tensor | None = None,
) -> Tensor:
    """The norm of `x_NCHW`, on a GPU, in its type, computed in float32; channels-last.

    `emb_N2C` holds scales, then shifts. `before_NC` is added to `x_NCHW` first: the bias of the convolution before.
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
    before = (before_NC, before_NC.stride(0)) if before_NC is not None else (None, 0)
    size = channels // groups
    _group_moments[n * groups,](
        moments, statistics, *before, pixels, channels, n * tiles * channels, n * groups, tiles, eps,
        GROUPS=groups, SIZE=size, TILE=TILE_PIXELS, TILES=triton.next_power_of_2(tiles),
        CHANNELS=triton.next_power_of_2(size), BEFORE=before_NC is not None,
    )  # fmt: skip
    _normalise[n * triton.cdiv(pixels, ROWS), columns](
        x_NCHW, out, statistics, weight_C, bias_C, emb_N2C, *before, pixels, channels, n * groups,
        GROUPS=groups, SIZE=size, SCALED=emb_N2C is not None, SILU=silu,
        BEFORE=before_NC is not None, ROWS=ROWS, COLUMNS=COLUMNS,
    )  # fmt: skip
    return out


@triton.jit
def _tile_moments(
    x_NPC, moments_2NTC, pixels, channels, half, tiles, TILE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr
):
    """Mean and summed squared deviation of each channel in one tile of one image."""
    image, tile = tl.program_id(0) // tiles, tl.program_id(0) % tiles
    channel = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    mean_RC = tl.zeros([ROWS, COLUMNS], tl.float32)
    deviation_RC = tl.zeros([ROWS, COLUMNS], tl.float32)
    count_R = tl.zeros([ROWS], tl.float32)
    start = x_NPC + (image.to(tl.int64) * pixels + tile * TILE) * channels
    left = pixels - tile * TILE
    for first in range(0, TILE, ROWS):
        row = first + tl.arange(0, ROWS)
        valid = (row < left)[:, None] & (channel < channels)[None, :]
        x = tl.load(start + row[:, None] * channels + channel[None, :], mask=valid, other=0.0).to(tl.float32)
        delta = tl.where(valid, x - mean_RC, 0.0)
        mean_RC += delta * (1.0 / (first // ROWS + 1))
        deviation_RC += tl.where(valid, delta * (x - mean_RC), 0.0)
        count_R += tl.where(row < left, 1.0, 0.0)
    share_R = count_R / tl.sum(count_R, axis=0)
    mean = tl.sum(mean_RC * share_R[:, None], axis=0)
    apart = mean_RC - mean[None, :]
    deviation = tl.sum(deviation_RC + apart * apart * count_R[:, None], axis=0)
    place = tl.program_id(0).to(tl.int64) * channels + channel
    tl.store(moments_2NTC + place, mean, mask=channel < channels)
    tl.store(moments_2NTC + half + place, deviation, mask=channel < channels)


@triton.jit
def _group_moments(
    moments_2NTC,
    statistics_2NG,
    before_NC,
    before_stride,
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
    BEFORE: tl.constexpr,
):
    """Mean and 1 / sqrt(variance + eps) of one group of one image."""
    image, group = tl.program_id(0) // GROUPS, tl.program_id(0) % GROUPS
    tile, channel = tl.arange(0, TILES), tl.arange(0, CHANNELS)
    valid = (tile < tiles)[:, None] & (channel < SIZE)[None, :]
    place = (image.to(tl.int64) * tiles + tile)[:, None] * channels + (group * SIZE + channel)[None, :]
    means = tl.load(moments_2NTC + place, mask=valid, other=0.0)
    deviations = tl.load(moments_2NTC + half + place, mask=valid, other=0.0)
    if BEFORE:
        inside = channel < SIZE
        before = tl.load(before_NC + image * before_stride + group * SIZE + channel, mask=inside, other=0.0)
        means = tl.where(valid, means + before.to(tl.float32)[None, :], 0.0)
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
    before_NC,
    before_stride,
    pixels,
    channels,
    all_groups,
    GROUPS: tl.constexpr,
    SIZE: tl.constexpr,
    SCALED: tl.constexpr,
    SILU: tl.constexpr,
    BEFORE: tl.constexpr,
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
    if BEFORE:
        offset += tl.load(before_NC + image * before_stride + channel, mask=inside, other=0.0).to(tl.float32) * factor
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
