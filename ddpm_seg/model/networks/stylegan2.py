"""StyleGAN2 (Karras et al., CVPR 2020) as a network that draws images along with their features, as in DatasetGAN.

DatasetGAN (Zhang et al., CVPR 2021) reads the generator's own maps, so it can label only what it draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from ddpm_seg.model.device.compiled import compiled
from ddpm_seg.model.device.dtypes import activations, without_int8
from ddpm_seg.model.device.meta import with_weights
from ddpm_seg.model.device.runtime import Runtime
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.limits import MAX_CHANNELS, MAX_DEPTH, check_range
from ddpm_seg.model.network import Checkpoint
from ddpm_seg.model.networks.plain_network import PlainNetwork
from ddpm_seg.model.networks.stylegan2_drawer import StyleGAN2Drawer, default_batch_size
from ddpm_seg.model.networks.stylegan2_generator import (
    SMALLEST,
    StyleGAN2,
    check_generator,
    generator_peak,
    map_channels,
    map_sides,
    maps_within,
)
from ddpm_seg.model.sampling import SamplingConfig

TRUNCATION = 0.7
"""DatasetGAN's truncation."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StyleGAN2Config(PlainNetwork):
    """Architecture of a generator that adds up its image over all resolutions ("skip")."""

    kind: ClassVar[str] = "stylegan2"
    checkpoints: ClassVar[tuple[Checkpoint, ...]] = (
        Checkpoint(
            flag="stylegan2",
            title="StyleGAN2",
            loader="stylegan2",
            landmarks={"conv1.conv.modulation.weight": None, "to_rgb1.conv.modulation.weight": None},
            options=("image_size",),
        ),
    )

    image_size: int
    """Side of the images to draw: the generator's own, or that halved any number of times."""
    channels: tuple[int, ...]
    """Channels of the layers at 4 x 4, 8 x 8, ... pixels."""
    mapping: tuple[int, ...]
    """Widths of the mapping network: the latent's, and that of each layer's output; the last is the code's."""
    conv_clamp: float | None = None
    """Largest activation."""

    def __post_init__(self) -> None:
        check_generator(self.channels, self.conv_clamp)
        check_range("layers of the mapping network", len(self.mapping) - 1, MAX_DEPTH)
        for width in self.mapping:
            check_range("mapping", width, MAX_CHANNELS)
        if self.image_size not in map_sides(self.channels)[::2]:
            raise ValueError(
                f"image_size is {self.image_size}; expected {self.side}, the side of this generator's images, or that "
                f"halved any number of times, down to {SMALLEST}"
            )

    @property
    def title(self) -> str:
        return "StyleGAN2"

    @property
    def side(self) -> int:
        """Side of the generator's own images."""
        return map_sides(self.channels)[-1]

    @property
    def block_channels(self) -> list[int]:
        return map_channels(self.channels)

    @property
    def block_sides(self) -> list[int]:
        """Side of each block's map."""
        return map_sides(self.channels)

    @property
    def peak_values(self) -> int:
        return generator_peak(self.channels)

    def published_features(self) -> FeatureConfig:
        """All maps that are no larger than the image."""
        return FeatureConfig(steps=(), blocks=maps_within(self.channels, self.image_size), truncation=TRUNCATION)

    def build(self) -> StyleGAN2:
        return StyleGAN2(self.channels, self.mapping, self.conv_clamp, self.image_size)

    def drawing(self, sampling: SamplingConfig) -> StyleGAN2Drawing:
        sampling.refuse_all_but(StyleGAN2Drawing.flags, self.title)
        truncation = TRUNCATION if sampling.truncation is None else sampling.truncation
        return StyleGAN2Drawing(network=self, truncation=truncation)


@dataclass(frozen=True, kw_only=True, slots=True)
class StyleGAN2Drawing:
    """How a StyleGAN2 draws: its codes are moved towards the mean code."""

    flags: ClassVar[tuple[str, ...]] = ("truncation",)

    network: StyleGAN2Config
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
    ) -> StyleGAN2Drawer:
        network: Any = with_weights(self.network, weights)
        network.to(runtime.device).float()
        network.cast_convolutions(activations(without_int8(runtime.dtype, self.network.title)))
        if runtime.compile:
            network.forward = compiled(network.forward)
        batch_size = batch_size or default_batch_size(self.network.peak_values, runtime.device)
        network.eval().requires_grad_(False)
        return StyleGAN2Drawer(network, self.truncation, runtime.device, batch_size)
