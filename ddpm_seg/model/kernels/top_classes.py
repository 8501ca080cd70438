"""The most probable classes of each pixel in one pass; `torch.topk` sorts each pixel's column apart."""

# Shapes: K classes, T of them kept, P pixels.

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

VALUES = 8192
"""Probabilities that a program holds."""


def top_classes(p_KRW: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Ids and probabilities in 255ths, each (T, R, W) uint8, of probabilities (K, R, W) float32 on a GPU, the most
    probable first. Of two that are equal, the smaller id comes first."""
    classes, *size = p_KRW.shape
    pixels = size[0] * size[1]
    ids, parts = torch.empty(2, top, *size, dtype=torch.uint8, device=p_KRW.device).unbind()
    padded = triton.next_power_of_2(classes)
    tile = min(128, VALUES // padded)
    _top[triton.cdiv(pixels, tile),](
        p_KRW.contiguous(), ids, parts, pixels, classes, PADDED=padded, TOP=top, PIXELS=tile
    )
    return ids, parts


@triton.jit
def _top(p_KP, ids_TP, parts_TP, pixels, classes, PADDED: tl.constexpr, TOP: tl.constexpr, PIXELS: tl.constexpr):
    kind, pixel = tl.arange(0, PADDED), tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    valid = pixel < pixels
    there = (kind < classes)[:, None] & valid[None, :]
    left_KP = tl.load(p_KP + kind[:, None].to(tl.int64) * pixels + pixel[None, :], mask=there, other=-1.0)
    for rank in tl.static_range(TOP):
        best_P = tl.max(left_KP, axis=0)
        id_P = tl.argmax(left_KP, axis=0, tie_break_left=True)
        tl.store(ids_TP + rank * pixels + pixel, id_P.to(tl.uint8), mask=valid)
        tl.store(parts_TP + rank * pixels + pixel, (best_P * 255.0 + 0.5).to(tl.uint8), mask=valid)
        left_KP = tl.where(kind[:, None] == id_P[None, :], -1.0, left_KP)
