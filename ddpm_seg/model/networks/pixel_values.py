"""Converts pictures to the values that networks take, and back."""

# Shapes: N images of H x W pixels.

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_seg.model.device.copies import to_device

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def to_network(images: NDArray[np.uint8], device: torch.device | str) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32 in [-1, 1], rounded like the published ToTensor and 2x - 1."""
    return _to_unit(images, device) * 2 - 1


def to_imagenet(images: NDArray[np.uint8], device: torch.device | str) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32, standardised with ImageNet's mean and deviation as published."""
    return to_standard_of(images, device, MEAN, DEVIATION)


def to_standard_of(
    images: NDArray[np.uint8], device: torch.device | str, mean: Sequence[float], deviation: Sequence[float]
) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32: standardised with `mean` and `deviation` of values from 0 to 1."""
    means, deviations = (to_device(torch.tensor(values), device)[:, None, None] for values in (mean, deviation))
    return (_to_unit(images, device) - means) / deviations


def to_standard(images: NDArray[np.uint8], device: torch.device | str, *, shift: float, deviation: float) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32: adds `shift` to each value in 0..255 and divides by `deviation`."""
    return (_to_float(images, device) + shift) * (1 / deviation)


def from_network(x: Tensor) -> NDArray[np.uint8]:
    """(N, 3, H, W) float32 in [-1, 1] to the nearest picture (N, H, W, 3) uint8."""
    return ((x + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def _to_unit(images: NDArray[np.uint8], device: torch.device | str) -> Tensor:
    return _to_float(images, device) / 255


def _to_float(images: NDArray[np.uint8], device: torch.device | str) -> Tensor:
    # "W": torch warns of arrays that it may not write to, as those of decoded pictures are.
    return to_device(torch.from_numpy(np.require(images, requirements=("C", "W"))), device).permute(0, 3, 1, 2).float()
