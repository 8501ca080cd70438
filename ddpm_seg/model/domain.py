"""How far images lie from those that an ensemble was trained on, in the network's own features."""

# Shapes: B images to judge, N training images, D = 2 * channels of all maps.

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

MAX_IMAGES = 256
"""Training images that are kept, at most."""
LEAST_IMAGES = 3
"""Fewer say nothing of how images differ."""

_EPS = 1e-6


def describe_maps(maps: Sequence[Tensor]) -> Tensor:
    """(B, D) float32: mean and standard deviation of each channel of `maps`, each (B, C, h, w), over its positions."""
    means = torch.cat([one.float().mean(dim=(2, 3)) for one in maps], dim=1)
    deviations = torch.cat([one.float().flatten(2).std(dim=2, correction=0) for one in maps], dim=1)
    return torch.cat([means, deviations], dim=1)


class Domain:
    """The training images, described by `describe_maps`.

    An image's distance is that to the nearest training image: the root mean square over D, each dimension in units of
    its standard deviation among training images. It is given as a multiple of the mean of the training images' own
    distances, each to the nearest other one.
    """

    def __init__(self, training_ND: Tensor) -> None:
        self.scale_D = training_ND.std(dim=0) + _EPS
        self.training_ND = training_ND / self.scale_D
        among = torch.cdist(self.training_ND, self.training_ND).fill_diagonal_(torch.inf)
        self.unit = among.min(dim=1).values.mean() + _EPS

    def distances(self, maps: Sequence[Tensor]) -> Tensor:
        """(B,) float32, for `maps` in the order of `features.Extractor`, each (B, C, h, w)."""
        described_BD = describe_maps(maps) / self.scale_D
        return torch.cdist(described_BD, self.training_ND).min(dim=1).values / self.unit
