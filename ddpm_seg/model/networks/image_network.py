"""Networks that see an image once, as it is: what their configurations share, and how features are read."""

# Shapes: N images of S x S pixels.

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ddpm_seg.model.device.compiled import compiled
from ddpm_seg.model.device.dtypes import SegmentDType, activations, without_int8
from ddpm_seg.model.device.meta import with_weights
from ddpm_seg.model.device.runtime import Runtime
from ddpm_seg.model.drawing import Drawing, cannot_draw
from ddpm_seg.model.features import FeatureConfig, joined
from ddpm_seg.model.json_values import from_json
from ddpm_seg.model.sampling import SamplingConfig

N = TypeVar("N", bound="ImageNetwork")


class ImageNetwork(ABC):
    """Base of the dataclasses that describe such networks: `network.Network` but for what differs between them.

    `build` returns a module with `activations(x, blocks)`: the maps (N, C, h, w) of `blocks`, ascending, for what
    `preprocess` returns. Whatever `__post_init__` has not checked may be nonsense that a stranger wrote.
    """

    __slots__ = ()

    kind: ClassVar[str]
    reads_images: ClassVar[bool] = True

    @property
    @abstractmethod
    def title(self) -> str: ...

    @abstractmethod
    def preprocess(self, images: np.ndarray, device: torch.device | str) -> Tensor:
        """(N, S, S, 3) uint8 to the network's input, (N, 3, H, W) float32, as in its training."""

    @abstractmethod
    def build(self) -> nn.Module: ...

    @property
    def timesteps(self) -> int:
        return 0

    @property
    def noise_shape(self) -> None:
        return None

    @property
    def schema_version(self) -> int:
        return 3

    @classmethod
    def sections(cls) -> tuple[str, ...]:
        return (cls.kind,)

    @classmethod
    def from_json(cls: type[N], content: Mapping[str, Any]) -> N:
        return from_json(cls, content[cls.kind], cls.kind)

    def to_json(self) -> dict[str, Any]:
        return {self.kind: asdict(self)}  # type: ignore[call-overload]  # whoever inherits is a dataclass

    def architecture(self) -> dict[str, Any]:
        return self.to_json()

    def check_dtype(self, dtype: SegmentDType) -> None:
        without_int8(dtype, self.title)

    def cast(self, network: nn.Module, dtype: torch.dtype) -> None:
        """Sets the type that the network runs in. Networks override it where parts must stay float32."""
        network.to(dtype)

    def extractor(self, weights: Mapping[str, Tensor], noise: Tensor | None, runtime: Runtime) -> ImageExtractor:
        network: Any = with_weights(self, weights)
        network.to(runtime.device)
        self.cast(network, activations(without_int8(runtime.dtype, self.title)))
        if runtime.compile:
            network.activations = compiled(network.activations)
        return ImageExtractor(network.eval().requires_grad_(False), self.preprocess)

    def drawing(self, sampling: SamplingConfig) -> Drawing:
        raise cannot_draw(self.title)


class BlockNetwork(Protocol):
    """What `ImageNetwork.build` returns."""

    def activations(self, x: Tensor, blocks: Collection[int]) -> list[Tensor]: ...

    def parameters(self) -> Any: ...


class ImageExtractor:
    """A resident network with its preprocessing: the `features.Extractor` of an `ImageNetwork`."""

    def __init__(self, network: BlockNetwork, preprocess: Callable[[np.ndarray, torch.device | str], Tensor]) -> None:
        self.network, self.preprocess = network, preprocess

    def __call__(self, images: np.ndarray, features: FeatureConfig, *, micro_batch: int | None = None) -> list[Tensor]:
        """Maps of `images` (N, S, S, 3) uint8; see `features.Extractor`."""
        weight = next(self.network.parameters())
        x = self.preprocess(images, weight.device).to(weight.dtype, memory_format=torch.channels_last)
        return joined([self.network.activations(part, features.blocks) for part in x.split(micro_batch or len(x))])
