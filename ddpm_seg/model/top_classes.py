"""The most probable classes of each pixel: what travels of its probabilities from the model to the mask's writer."""

# Shapes: K classes, T of them kept, R x W pixels.

from __future__ import annotations

import torch
from torch import Tensor

TOP = 3
"""Classes kept. Masks enlarged from three are as good as from all ten: 0.7430 mIoU against 0.7430 on 100 avatars."""


def top_classes(p_KRW: Tensor) -> dict[str, Tensor]:
    """`top_ids` and `top_probabilities` of `PixelLabels`, both (T, R, W) uint8, of probabilities (K, R, W) float."""
    p, ids = p_KRW.topk(min(TOP, len(p_KRW)), dim=0)
    return {"top_ids": ids.to(torch.uint8), "top_probabilities": (p * 255).round().to(torch.uint8)}
