"""How networks draw that make an image and its maps of one latent: StyleGAN and StyleGAN2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from ddpm_seg.model.device.compiled import compiled
from ddpm_seg.model.device.dtypes import activations, without_int8
from ddpm_seg.model.device.meta import with_weights
from ddpm_seg.model.device.runtime import Runtime
from ddpm_seg.model.networks.style.latent_drawer import LatentDrawer, default_batch_size
from ddpm_seg.model.samples.sampling import SamplingConfig

TRUNCATION = 0.7
"""DatasetGAN's truncation."""


class LatentNetwork(Protocol):
    """The configuration of such a network."""

    kind: ClassVar[str]

    @property
    def title(self) -> str: ...

    @property
    def peak_values(self) -> int: ...

    def build(self) -> nn.Module:
        """A module with the methods that `LatentDrawer` calls, and `cast_convolutions`."""


def latent_drawing(network: LatentNetwork, sampling: SamplingConfig) -> LatentDrawing:
    """How `network` draws. Raises ValueError for flags of other networks."""
    sampling.refuse_all_but(LatentDrawing.flags, network.title)
    truncation = TRUNCATION if sampling.truncation is None else sampling.truncation
    return LatentDrawing(network=network, truncation=truncation)


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentDrawing:
    """How a StyleGAN draws: its codes are moved towards the mean code."""

    flags: ClassVar[tuple[str, ...]] = ("truncation",)

    network: LatentNetwork
    truncation: float
    """The share of a code's distance from the mean that remains."""

    @property
    def sampler(self) -> str:
        return self.network.kind

    @property
    def steps(self) -> int:
        return 1

    def settings(self) -> dict[str, Any]:
        return {"sampler": self.sampler, "truncation": float(self.truncation)}

    def details(self) -> dict[str, Any]:
        return {"truncation": float(self.truncation)}

    def lines(self) -> dict[str, str]:
        return {"truncation": f"{self.truncation:g}"}

    def drawer(
        self, weights: Mapping[str, Tensor], noise: Tensor | None, runtime: Runtime, batch_size: int | None = None
    ) -> LatentDrawer:
        network: Any = with_weights(self.network, weights)
        network.to(runtime.device).float()
        network.cast_convolutions(activations(without_int8(runtime.dtype, self.network.title)))
        if runtime.compile:
            network.forward = compiled(network.forward)
        batch_size = batch_size or default_batch_size(self.network.peak_values, runtime.device)
        network.eval().requires_grad_(False)
        return LatentDrawer(network, self.truncation, runtime.device, batch_size)
