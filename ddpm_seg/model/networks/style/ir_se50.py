"""The IR-SE50 and its pyramid, with which e4e and pSp read images (Deng et al., CVPR 2019, ArcFace's network).

Module names are those of omertov/encoder4editing and eladrich/pixel2style2pixel, which are the same.
"""

# Shapes: N images of S x S pixels, C channels; w the width of the first stage (64 as published).

from __future__ import annotations

from collections.abc import Collection, Iterator

import torch.nn.functional as F
from torch import Tensor, nn

DEPTHS = (3, 4, 14, 3)
"""Number of units in each stage; every stage halves the resolution, including the first."""
BODY = sum(DEPTHS)
P2, P1 = BODY, BODY + 1
"""Numbers of the pyramid's maps, after those of the body's units."""
STRIDE = 16
"""Image pixels per pixel of the last stage."""
_STAGE_ENDS = (6, 20, 23)
"""Units that the pyramid reads: the last ones of the second, third and fourth stage."""
REDUCTION = 16


def block_channels(width: int) -> list[int]:
    """Channels of each unit's output and of p2 and p1."""
    units = [width * 2**stage for stage, depth in enumerate(DEPTHS) for _ in range(depth)]
    return [*units, 8 * width, 8 * width]


def block_strides() -> list[int]:
    """Image pixels per pixel for each of these maps."""
    units = [2 ** (stage + 1) for stage, depth in enumerate(DEPTHS) for _ in range(depth)]
    return [*units, 8, 4]


class IRSE50(nn.Module):
    """A residual network with squeeze-and-excitation, and two maps that carry its last stage to finer resolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.PReLU(width)
        )
        self.body = nn.Sequential(*_units(width))
        self.latlayer1 = nn.Conv2d(4 * width, 8 * width, 1)
        self.latlayer2 = nn.Conv2d(2 * width, 8 * width, 1)

    def maps(self, x: Tensor) -> Iterator[Tensor]:
        """Yields the outputs of the 24 units, then p2 and p1, for `x` (N, 3, S, S) in [-1, 1], S a multiple of 16.

        Computes each map only when it is asked for.
        """
        h, ends = self.input_layer(x), []
        for number, unit in enumerate(self.body):
            h = unit(h)
            if number in _STAGE_ENDS:
                ends.append(h)
            yield h
        c1, c2, c3 = ends
        p2 = _enlarged(c3, c2) + self.latlayer1(c2)
        yield p2
        yield _enlarged(p2, c1) + self.latlayer2(c1)

    def activations(self, x: Tensor, blocks: Collection[int]) -> list[Tensor]:
        """The maps of `blocks`, ascending; see `maps`."""
        numbered = zip(range(max(blocks) + 1), self.maps(x), strict=False)
        return [h for number, h in numbered if number in blocks]


class _Unit(nn.Module):
    def __init__(self, entering: int, leaving: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.shortcut_layer = None
        if entering != leaving:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(entering, leaving, 1, stride=stride, bias=False), nn.BatchNorm2d(leaving)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(entering),
            nn.Conv2d(entering, leaving, 3, padding=1, bias=False),
            nn.PReLU(leaving),
            nn.Conv2d(leaving, leaving, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(leaving),
            _SqueezeExcite(leaving),
        )

    def forward(self, x: Tensor) -> Tensor:
        strided = x[:, :, :: self.stride, :: self.stride] if self.shortcut_layer is None else self.shortcut_layer(x)
        return strided + self.res_layer(x)


class _SqueezeExcite(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, channels // REDUCTION, 1, bias=False)
        self.fc2 = nn.Conv2d(channels // REDUCTION, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.fc2(self.fc1(x.mean(dim=(2, 3), keepdim=True)).relu()).sigmoid()


def _units(width: int) -> Iterator[_Unit]:
    entering = width
    for stage, depth in enumerate(DEPTHS):
        leaving = width * 2**stage
        for index in range(depth):
            yield _Unit(entering, leaving, 2 if index == 0 else 1)
            entering = leaving


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)
