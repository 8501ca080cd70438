"""Base for networks that a library builds from the arguments in its folders, such as timm's and transformers'."""

# Shapes: N images of S x S pixels, C channels.

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm_seg.model.device.peak import peak_values
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.json_values import shown
from ddpm_seg.model.limits import MAX_CHANNELS, MAX_DEPTH, MAX_IMAGE_SIZE, MAX_STEPS, check_range
from ddpm_seg.model.networks.image_network import ImageNetwork
from ddpm_seg.model.networks.pixel_values import to_standard_of

MAX_VALUES = 4096
"""Values in all arguments of a network together."""
MAX_PARAMETER = 2**20
"""Largest whole number of an argument: the vocabulary of a text encoder has more entries than a layer has channels."""
READ, FEW = 4, 6
"""Blocks of a deep network that are read unless others are asked for; a network of at most 6, which are stages, is read
at all of them."""

_correct: set[str] = set()
"""Configurations whose maps were found to be as they state."""


class Backbone(nn.Module):
    """A library's network, as `network`, whose maps are read as `image_network` asks."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network: Any = network

    @abstractmethod
    def activations(self, x: Tensor, blocks: Collection[int]) -> list[Tensor]:
        """Maps (N, C, h, w) of `blocks`, ascending, for `x` (N, 3, S, S), without class and register tokens.

        Computes nothing after the last of `blocks`.
        """

    @property
    @abstractmethod
    def depth(self) -> int:
        """How many maps there are."""

    def shapes(self, side: int) -> list[tuple[int, ...]]:
        """Shape (C, h, h) of each map of an image of `side`, for a network on the meta device.

        Raises ValueError if it does not take such images, or gives no square maps.
        """
        try:
            with torch.device("meta"), torch.no_grad():
                maps = self.eval().activations(torch.zeros(1, 3, side, side), range(self.depth))
        # Each network has its own exceptions for a side that it does not take.
        except Exception as error:
            raise ValueError(f"it cannot see images of {side} x {side} pixels: {error}") from error
        shapes = [tuple(found.shape[1:]) for found in maps]
        if wrong := [shape for shape in shapes if len(shape) != 3 or shape[1] != shape[2]]:
            raise ValueError(f"it gives maps of shape {wrong[0]}; expected square maps, (C, h, h)")
        return shapes


@dataclass(frozen=True, kw_only=True, slots=True)
class LibraryNetwork(ImageNetwork):
    """Base class of these networks' dataclasses, whose `kind` is also the extra to install."""

    arguments: dict[str, Any]
    """What the library builds the network from."""
    image_size: int
    mean: tuple[float, ...]
    """Red, green and blue, of values from 0 to 1."""
    deviation: tuple[float, ...]
    block_channels: tuple[int, ...]
    """Channels of each map, first block (or stage) first."""
    block_sides: tuple[int, ...]

    def __post_init__(self) -> None:
        check_arguments(self.arguments)
        check_range("image_size", self.image_size, MAX_IMAGE_SIZE)
        for name, values, least in (("mean", self.mean, -1000), ("deviation", self.deviation, 1e-6)):
            if len(values) != 3:
                raise ValueError(f"{name} must have a value for red, green and blue, got {values}")
            for value in values:
                check_range(name, value, 1000, least)
        if len(self.block_channels) != len(self.block_sides):
            raise ValueError(
                f"block_channels has {len(self.block_channels)} maps, but block_sides {len(self.block_sides)}"
            )
        check_range("number of maps", len(self.block_channels), MAX_STEPS)
        for channels, side in zip(self.block_channels, self.block_sides, strict=True):
            check_range("block_channels", channels, MAX_CHANNELS)
            check_range("block_sides", side, self.image_size)

    @abstractmethod
    def backbone(self) -> Backbone:
        """The network with random weights. Raises ModuleNotFoundError if the library is missing."""

    @property
    def schema_version(self) -> int:
        return 4

    @property
    def peak_values(self) -> int:
        """Values in memory at the peak, if every map is read: measured on the meta device."""
        with torch.device("meta"):
            network = self.build().eval()
        side = self.image_size
        return peak_values(lambda: network.activations(torch.zeros(1, 3, side, side), range(network.depth)))

    def published_features(self) -> FeatureConfig:
        """Four evenly spaced blocks that end with the last, as heads for dense prediction read vision transformers; all
        of a network of few stages."""
        depth = len(self.block_channels)
        spaced = tuple(depth * part // READ - 1 for part in range(1, READ + 1))
        return FeatureConfig(steps=(), blocks=tuple(range(depth)) if depth <= FEW else spaced)

    def preprocess(self, images: NDArray[np.uint8], device: torch.device | str) -> Tensor:
        return to_standard_of(images, device, self.mean, self.deviation)

    def build(self) -> Backbone:
        try:
            network = self.backbone()
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}: this network needs pip install 'ddpm_seg[{self.kind}]'") from error
        stated = json.dumps(self.to_json(), sort_keys=True)
        if torch.empty(0).is_meta and stated not in _correct:
            shapes = network.shapes(self.image_size)
            maps = zip(self.block_channels, self.block_sides, strict=True)
            expected = [(channels, side, side) for channels, side in maps]
            if shapes != expected:
                raise ValueError(f"its maps are {shown(shapes)}, but it states {shown(expected)}")
            _correct.add(stated)
        return network


def check_arguments(arguments: Mapping[str, Any], refused: Collection[str] = ()) -> None:
    """Raises ValueError for an argument of `refused`, and for numbers that would build a network beyond all limits."""
    if found := sorted(set(arguments) & set(refused)):
        raise ValueError(f"{shown(found[0])} is no argument of an architecture: leave it out")
    left = MAX_VALUES
    level: list[tuple[str, Any]] = list(arguments.items())
    while level:
        name, value = level.pop()
        left -= 1
        if left < 0:
            raise ValueError(f"it has more than {MAX_VALUES} arguments")
        if isinstance(value, dict):
            level += value.items()
        elif isinstance(value, list | tuple):
            level += [(name, inner) for inner in value]
        elif isinstance(value, int) and not isinstance(value, bool):
            counts_layers = any(part in name for part in ("depth", "layers", "repeat"))
            check_range(shown(name), value, MAX_DEPTH if counts_layers else MAX_PARAMETER, least=-MAX_PARAMETER)
