"""Base for networks that see an image once, without noise: what their configurations share, and how features are
read."""

# Shapes: N images of S x S pixels.

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm_seg.model.device.compiled import compiled
from ddpm_seg.model.device.dtypes import activations
from ddpm_seg.model.device.meta import with_weights
from ddpm_seg.model.device.runtime import Runtime
from ddpm_seg.model.features import FeatureConfig, joined
from ddpm_seg.model.networks.plain_network import PlainNetwork


class ImageNetwork(PlainNetwork):
    """Base class of these networks' dataclasses. Implements `network.Network`, except for what differs between them.

    `build` returns a module with `activations(x, blocks)`: the maps (N, C, h, w) of `blocks`, ascending, for the output
    `x` of `preprocess`. Fields may come from an untrusted bundle: `__post_init__` must check all that it relies on.
    """

    __slots__ = ()

    reads_images: ClassVar[bool] = True

    @abstractmethod
    def preprocess(self, images: NDArray[np.uint8], device: torch.device | str) -> Tensor:
        """(N, S, S, 3) uint8 to the network's input (N, 3, H, W) float32, as in its training."""

    def cast(self, network: nn.Module, dtype: torch.dtype) -> None:
        """Sets the type that the network runs in. Override it if some parts must stay float32."""
        network.to(dtype)

    def extractor(self, weights: Mapping[str, Tensor], noise: Tensor | None, runtime: Runtime) -> ImageExtractor:
        self.check_dtype(runtime.dtype)
        network: Any = with_weights(self, weights)
        network.to(runtime.device)
        self.cast(network, activations(runtime.dtype))
        if runtime.compile:
            network.activations = compiled(network.activations)
        return ImageExtractor(network.eval().requires_grad_(False), self.preprocess)


class BlockNetwork(Protocol):
    """What `ImageNetwork.build` returns."""

    def activations(self, x: Tensor, blocks: Collection[int]) -> list[Tensor]: ...

    def parameters(self) -> Any: ...


class ImageExtractor:
    """A resident network with its preprocessing: the `features.Extractor` of an `ImageNetwork`."""

    def __init__(
        self, network: BlockNetwork, preprocess: Callable[[NDArray[np.uint8], torch.device | str], Tensor]
    ) -> None:
        self.network, self.preprocess = network, preprocess

    def __call__(
        self, images: NDArray[np.uint8], features: FeatureConfig, *, micro_batch: int | None = None
    ) -> list[Tensor]:
        """Maps of `images` (N, S, S, 3) uint8; see `features.Extractor`."""
        weight = next(self.network.parameters())
        x = self.preprocess(images, weight.device).to(weight.dtype, memory_format=torch.channels_last)
        return joined([self.network.activations(part, features.blocks) for part in x.split(micro_batch or len(x))])
