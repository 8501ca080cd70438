"""A small U-Net for segmentation, trained from scratch: a baseline for diffusion features, and a fast student.

Ronneberger et al. (2015), with padded convolutions and batch normalisation.
"""

# Shapes: N images, H x W pixels (both divisible by 2 ** (levels - 1)), K classes.

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class PlainUNet(nn.Module):
    """Images (N, 3, H, W) in [-1, 1] to logits (N, K, H, W).

    The first level has `width` channels and each lower level twice as many; width 16 with five levels has 1.9 M
    parameters.
    """

    def __init__(self, num_classes: int, *, width: int, levels: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(levels)]
        self.down = nn.ModuleList(_two_convolutions(before, after) for before, after in pairwise([3, *widths]))
        self.pool = nn.MaxPool2d(2)
        pairs = list(pairwise(widths))[::-1]
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(low, high, 2, stride=2) for high, low in pairs)
        self.up = nn.ModuleList(_two_convolutions(2 * high, high) for high, _ in pairs)
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        skipped: list[Tensor] = []
        for block in self.down:
            x = block(self.pool(x) if skipped else x)
            skipped.append(x)
        for enlarge, block, skip in zip(self.enlarge, self.up, skipped[-2::-1], strict=True):
            x = block(torch.cat([enlarge(x), skip], dim=1))
        return self.head(x)


def _two_convolutions(before: int, after: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (before, after):
        # No bias: the normalisation adds one.
        layers += [nn.Conv2d(channels, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
