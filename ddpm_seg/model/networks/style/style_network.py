"""What StyleGAN and StyleGAN2 have in common: a generator that draws an image and its maps from one latent."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.plain_network import PlainNetwork
from ddpm_seg.model.networks.style.latent_drawing import TRUNCATION, LatentDrawing, latent_drawing
from ddpm_seg.model.networks.style.stylegan2_generator import (
    check_generator,
    check_image_size,
    check_mapping,
    generator_peak,
    map_channels,
    map_sides,
    maps_within,
)
from ddpm_seg.model.samples.sampling import SamplingConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class StyleNetwork(PlainNetwork):
    """Architecture of a generator; a subclass names and builds it."""

    image_size: int
    """Side of the images to draw: the generator's own, or that halved any number of times."""
    channels: tuple[int, ...]
    """Channels of the layers at 4 x 4, 8 x 8, ... pixels."""
    mapping: tuple[int, ...]
    """Widths in the mapping network: of the latent z, then of each layer's output. The last is that of the code w."""

    def __post_init__(self) -> None:
        check_generator(self.channels, None)
        check_mapping(self.mapping)
        check_image_size(self.image_size, self.channels)

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

    def drawing(self, sampling: SamplingConfig) -> LatentDrawing:
        return latent_drawing(self, sampling)
