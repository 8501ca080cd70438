"""Two networks that look at the same image: the maps of both are the features of one ensemble."""

# Shapes: N images of S x S pixels, the larger of the two networks' sides.

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm_seg.model.device.dtypes import DType
from ddpm_seg.model.device.runtime import Runtime
from ddpm_seg.model.features import Extractor, FeatureConfig
from ddpm_seg.model.network import Checkpoint, Network, require_images
from ddpm_seg.model.networks.plain_network import PlainNetwork

NAMES = ("first", "second")


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """One network of a pair, and what is read of it unless other blocks are asked for. Its steps stay."""

    network: Network
    features: FeatureConfig


class _Map(NamedTuple):
    part: int
    step: int | None
    block: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PairConfig(PlainNetwork):
    """Its blocks are all maps of the first network (a DDPM's at each of its steps), then those of the second."""

    kind: ClassVar[str] = "pair"
    checkpoints: ClassVar[tuple[Checkpoint, ...]] = ()
    reads_images: ClassVar[bool] = True

    parts: tuple[Part, Part]

    def __post_init__(self) -> None:
        for part in self.parts:
            require_images(part.network)
            part.features.check(part.network)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> PairConfig:
        raise NotImplementedError("bundle.network_json knows what its parts may be")

    def to_json(self) -> dict[str, Any]:
        return {self.kind: [{**part.network.to_json(), "features": part.features.to_json()} for part in self.parts]}

    @property
    def title(self) -> str:
        return " with a ".join(part.network.title for part in self.parts)

    @property
    def schema_version(self) -> int:
        return 4

    @property
    def image_size(self) -> int:
        return max(part.network.image_size for part in self.parts)

    @property
    def maps(self) -> list[_Map]:
        """What each block of the pair is."""
        return [
            _Map(index, step, block)
            for index, part in enumerate(self.parts)
            for step in part.features.steps or (None,)
            for block in range(len(part.network.block_channels))
        ]

    @property
    def block_channels(self) -> list[int]:
        return [self.parts[one.part].network.block_channels[one.block] for one in self.maps]

    @property
    def block_sides(self) -> list[int]:
        return [self.parts[one.part].network.block_sides[one.block] for one in self.maps]

    @property
    def peak_values(self) -> int:
        """The larger network's, beside the maps of the other one."""
        kept = 0
        for part in self.parts:
            maps = zip(part.features.channels(part.network), part.features.sides(part.network), strict=True)
            kept += sum(channels * side**2 for channels, side in maps)
        return max(part.network.peak_values for part in self.parts) + kept

    def published_features(self) -> FeatureConfig:
        """What is read of each network by itself."""
        read = [index for index, one in enumerate(self.maps) if one.block in self.parts[one.part].features.blocks]
        return FeatureConfig(steps=(), blocks=tuple(read))

    def build(self) -> Pair:
        return Pair([part.network for part in self.parts])

    def check_dtype(self, dtype: DType) -> None:
        for part in self.parts:
            part.network.check_dtype(dtype)

    def extractor(self, weights: Mapping[str, Tensor], noise: Tensor | None, runtime: Runtime) -> PairExtractor:
        self.check_dtype(runtime.dtype)
        extractors = [
            part.network.extractor(weights_of(name, weights), weights.get(f"{name}_noise"), runtime)
            for name, part in zip(NAMES, self.parts, strict=True)
        ]
        return PairExtractor(self, extractors)


class Pair(nn.Module):
    """Both networks, each with its noise, if it has one."""

    def __init__(self, networks: Sequence[Network]) -> None:
        super().__init__()
        for name, network in zip(NAMES, networks, strict=True):
            self.add_module(name, network.build())
            if network.noise_shape:
                self.register_buffer(f"{name}_noise", torch.zeros(network.noise_shape))


def joined_weights(weights: Sequence[Mapping[str, Tensor]], noises: Sequence[Tensor | None]) -> dict[str, Tensor]:
    """The state dict of a `Pair` from those of its networks."""
    state = {f"{name}.{key}": value for name, own in zip(NAMES, weights, strict=True) for key, value in own.items()}
    return state | {f"{name}_noise": noise for name, noise in zip(NAMES, noises, strict=True) if noise is not None}


def weights_of(name: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of one network in that of a `Pair`."""
    return {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}


class PairExtractor:
    """Both resident networks; each sees the image at its own side and with its own preprocessing."""

    def __init__(self, pair: PairConfig, extractors: Sequence[Extractor]) -> None:
        self.pair, self.extractors = pair, extractors

    def __call__(
        self, images: NDArray[np.uint8], features: FeatureConfig, *, micro_batch: int | None = None
    ) -> list[Tensor]:
        """Maps of `images` (N, S, S, 3) uint8; see `features.Extractor`."""
        read = [self.pair.maps[block] for block in sorted(set(features.blocks))]
        found: dict[_Map, Tensor] = {}
        for index, (part, extract) in enumerate(zip(self.pair.parts, self.extractors, strict=True)):
            own = [one for one in read if one.part == index]
            if not own:
                continue
            steps = tuple(step for step in part.features.steps if any(one.step == step for one in own))
            blocks = tuple(sorted({one.block for one in own}))
            asked = replace(part.features, steps=steps, blocks=blocks)
            maps = extract(_at_side(images, part.network.image_size), asked, micro_batch=micro_batch)
            keys = [_Map(index, step, block) for step in steps or (None,) for block in blocks]
            found |= dict(zip(keys, maps, strict=True))
        return [found[one] for one in read]


def _at_side(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """`images` (N, S, S, 3) uint8 at `side` x `side`, averaged where they shrink."""
    if images.shape[1] == side:
        return images
    x = torch.from_numpy(np.require(images, requirements=("C", "W"))).permute(0, 3, 1, 2).float()
    x = F.interpolate(x, size=(side, side), mode="bilinear", antialias=True)
    return x.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()
