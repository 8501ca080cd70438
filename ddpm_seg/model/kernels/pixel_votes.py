"""The ensemble's layers after the first, and its vote, for a tile of pixels at a time.

`Ensemble.logits` and `vote` pass over the image tens of times; this kernel stays in registers. For each member it
enlarges the first layer's products, runs the second and third layers, and adds up softmax, entropy and votes.
"""

# Shapes: M members, K classes, P pixels, H1 and H2 hidden units, h x w a map's own resolution.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

PIXELS = {torch.float32: 32, torch.bfloat16: 64, torch.float16: 64}
"""Pixels that a program holds, by the type of the weights: the best of 15 tiles on an H100."""
CHUNK, WARPS = 32, 4
"""Hidden units that a program multiplies at once, and its warps."""


def pixel_votes(
    products_hwMH: list[Tensor],
    first_bias_MH: Tensor,
    second: tuple[Tensor, Tensor],
    third: tuple[Tensor, Tensor],
    size: tuple[int, int],
    *,
    nearest: bool,
    precise: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Label (P,) uint8, uncertainty (P,), confidence (P,), mean softmax (K, P) float32 of an image of `size` (H, W).

    `products_hwMH`: the first layer's products, one tensor per resolution. `second` and `third`: weights (M, H1, H2)
    and (M, H2, K), and float32 biases. Multiplies in the weights' type and adds in float32; float32 weights in TF32,
    unless `precise`.
    """
    members, h1 = first_bias_MH.shape
    h2, classes = third[0].shape[1:]
    pixels, device = size[0] * size[1], first_bias_MH.device
    label = torch.empty(pixels, dtype=torch.uint8, device=device)
    uncertainty, confidence = torch.empty(2, pixels, dtype=torch.float32, device=device).unbind()
    mean_KP = torch.empty(classes, pixels, dtype=torch.float32, device=device)
    tile = PIXELS[second[0].dtype]
    _votes[size[0], triton.cdiv(size[1], tile)](
        tuple(products_hwMH), first_bias_MH, *second, *third, label, uncertainty, confidence, mean_KP,
        tuple(tuple(one.shape[:2]) for one in products_hwMH), *size, MEMBERS=members, H1=h1, H2=h2, CLASSES=classes,
        PADDED=max(16, triton.next_power_of_2(classes)), NEAREST=nearest, PRECISION="ieee" if precise else "tf32",
        PIXELS=tile, CHUNK=CHUNK, num_warps=WARPS, num_stages=1,
    )  # fmt: skip
    return label, uncertainty, confidence, mean_KP


@triton.jit
def _enlarged(product_hwMH, y, x, unit, stride, h, w, HEIGHT, WIDTH, NEAREST: tl.constexpr):
    """Values (pixels, units) of one map in row y and columns x of the image, as F.interpolate enlarges it."""
    if NEAREST:
        return tl.load(
            product_hwMH
            + (y * h // HEIGHT).to(tl.int64) * w * stride
            + (x * w // WIDTH)[:, None] * stride
            + unit[None, :]
        ).to(tl.float32)
    row = tl.maximum((y + 0.5) * (h / HEIGHT) - 0.5, 0.0)
    column = tl.maximum((x + 0.5) * (w / WIDTH) - 0.5, 0.0)
    top, left = row.to(tl.int64), column.to(tl.int32)
    upper = product_hwMH + top * w * stride
    lower = product_hwMH + tl.minimum(top + 1, h - 1) * w * stride
    at_left = left[:, None] * stride + unit[None, :]
    at_right = tl.minimum(left + 1, w - 1)[:, None] * stride + unit[None, :]
    down, right = row - top, (column - left)[:, None]
    a, b = tl.load(upper + at_left).to(tl.float32), tl.load(upper + at_right).to(tl.float32)
    a += (tl.load(lower + at_left).to(tl.float32) - a) * down
    b += (tl.load(lower + at_right).to(tl.float32) - b) * down
    return a + (b - a) * right


@triton.jit
def _votes(
    products,
    first_bias_MH,
    weight2,
    bias2,
    weight3,
    bias3,
    label_P,
    uncertainty_P,
    confidence_P,
    mean_KP,
    sides,
    HEIGHT,
    WIDTH,
    MEMBERS: tl.constexpr,
    H1: tl.constexpr,
    H2: tl.constexpr,
    CLASSES: tl.constexpr,
    PADDED: tl.constexpr,
    NEAREST: tl.constexpr,
    PRECISION: tl.constexpr,
    PIXELS: tl.constexpr,
    CHUNK: tl.constexpr,
):
    y, column = tl.program_id(0), tl.program_id(1) * PIXELS + tl.arange(0, PIXELS)
    x = tl.minimum(column, WIDTH - 1)
    unit, unit2, kind = tl.arange(0, CHUNK), tl.arange(0, H2), tl.arange(0, PADDED)
    real = kind < CLASSES
    mean_PK = tl.zeros([PIXELS, PADDED], tl.float32)
    votes_PK = tl.zeros([PIXELS, PADDED], tl.float32)
    entropy_P = tl.zeros([PIXELS], tl.float32)
    for member in range(MEMBERS):
        second_PH = tl.zeros([PIXELS, H2], tl.float32) + tl.load(bias2 + member * H2 + unit2)[None, :]
        for first in range(0, H1, CHUNK):
            place = member * H1 + first
            hidden = tl.zeros([PIXELS, CHUNK], tl.float32) + tl.load(first_bias_MH + place + unit)[None, :]
            for level in tl.static_range(len(products)):
                hidden += _enlarged(
                    products[level] + place, y, x, unit, MEMBERS * H1, sides[level][0], sides[level][1], HEIGHT, WIDTH,
                    NEAREST,
                )  # fmt: skip
            weight_CH = tl.load(weight2 + (place + unit)[:, None] * H2 + unit2[None, :])
            hidden = tl.maximum(hidden, 0.0).to(weight_CH.dtype)
            second_PH = tl.dot(hidden, weight_CH, second_PH, input_precision=PRECISION)
        weight_HK = tl.load(
            weight3 + (member * H2 + unit2)[:, None] * CLASSES + kind[None, :], mask=real[None, :], other=0.0
        )
        bias_K = tl.load(bias3 + member * CLASSES + kind, mask=real, other=float("-inf"))
        hidden = tl.maximum(second_PH, 0.0).to(weight_HK.dtype)
        logits_PK = tl.dot(hidden, weight_HK, input_precision=PRECISION) + bias_K[None, :]
        logits_PK -= tl.max(logits_PK, axis=1)[:, None]
        exp_PK = tl.exp(logits_PK)
        total_P = tl.sum(exp_PK, axis=1)
        p_PK = exp_PK / total_P[:, None]
        entropy_P -= tl.sum(tl.where(real[None, :], p_PK * (logits_PK - tl.log(total_P)[:, None]), 0.0), axis=1)
        mean_PK += p_PK
        chosen_P = tl.argmax(logits_PK, axis=1, tie_break_left=True)
        votes_PK += tl.where(kind[None, :] == chosen_P[:, None], 1.0, 0.0)
    mean_PK /= MEMBERS
    # Ties go to the smallest class.
    chosen_P = tl.argmax(votes_PK * PADDED - kind[None, :].to(tl.float32), axis=1)
    mixed_P = -tl.sum(tl.where(mean_PK > 0, mean_PK * tl.log(tl.where(mean_PK > 0, mean_PK, 1.0)), 0.0), axis=1)
    confidence = tl.sum(tl.where(kind[None, :] == chosen_P[:, None], mean_PK, 0.0), axis=1)
    pixel, valid = y * WIDTH + column, column < WIDTH
    tl.store(label_P + pixel, chosen_P.to(tl.uint8), mask=valid)
    tl.store(uncertainty_P + pixel, tl.maximum(mixed_P - entropy_P / MEMBERS, 0.0), mask=valid)
    tl.store(confidence_P + pixel, confidence, mask=valid)
    tl.store(mean_KP + kind[None, :] * (HEIGHT * WIDTH) + pixel[:, None], mean_PK, mask=valid[:, None] & real[None, :])
