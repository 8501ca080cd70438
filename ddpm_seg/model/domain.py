"""How far images lie from those that an ensemble was trained on, in the network's own features."""

# Shapes: B images to judge, N training images, D channels of all maps together.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MAX_IMAGES = 256
"""Training images that are kept, at most."""
LEAST_IMAGES = 3
"""Fewer say nothing of how images differ."""

_LEAST_DEVIATION = 1e-6
_LEAST_SCALE = 1e-3


def describe_maps(maps: Sequence[Tensor]) -> Tensor:
    """(B, D) float32: of each channel of `maps`, each (B, C, h, w), the log of its standard deviation over positions.

    How much a channel varies within an image tells kinds of images apart far better than its mean does.
    """
    deviations = torch.cat([_deviations(one.float()) for one in maps], dim=1)
    return (deviations + _LEAST_DEVIATION).log()


def _deviations(maps_BCHW: Tensor) -> Tensor:
    """(B, C). Over the last axis but one of channels-last memory: a fifth of the time that `std` takes there."""
    rows = maps_BCHW.permute(0, 2, 3, 1).flatten(1, 2)
    return (rows - rows.mean(dim=1, keepdim=True)).square_().mean(dim=1).sqrt()


class Domain:
    """The training images, described by `describe_maps`.

    An image's distance is that to the nearest training image: the mean absolute difference over D, each dimension in
    units of its standard deviation among training images. It is given as a multiple of the mean of the training images'
    own distances, each to the nearest other one.
    """

    def __init__(self, training_ND: Tensor) -> None:
        self.scale_D = training_ND.std(dim=0) + _LEAST_SCALE
        self.training_ND = training_ND / self.scale_D
        among = torch.cdist(self.training_ND, self.training_ND, p=1).fill_diagonal_(torch.inf)
        self.unit = among.min(dim=1).values.mean().clamp_min(torch.finfo(torch.float32).tiny)

    def distances(self, maps: Sequence[Tensor]) -> Tensor:
        """(B,) float32, for `maps` in the order of `features.Extractor`, each (B, C, h, w)."""
        described_BD = describe_maps(maps) / self.scale_D
        return torch.cdist(described_BD, self.training_ND, p=1).min(dim=1).values / self.unit
