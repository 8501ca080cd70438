"""The first StyleGAN (Karras et al., CVPR 2019), whose own maps DatasetGAN read (Zhang et al., CVPR 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.network import Checkpoint
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
from ddpm_seg.model.networks.style.stylegan_generator import StyleGAN
from ddpm_seg.model.sampling import SamplingConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class StyleGANConfig(PlainNetwork):
    """Architecture of a generator that gives its image at the last resolution."""

    kind: ClassVar[str] = "stylegan"
    checkpoints: ClassVar[tuple[Checkpoint, ...]] = (
        Checkpoint(
            flag="stylegan",
            title="StyleGAN",
            loader="stylegan",
            landmarks={"g_mapping.dense0.weight": None, "g_synthesis.torgb.weight": None},
            options=("image_size", "avg_latent"),
        ),
    )

    image_size: int
    """Side of the images to draw: the generator's own, or that halved any number of times."""
    channels: tuple[int, ...]
    """Channels of the layers at 4 x 4, 8 x 8, ... pixels."""
    mapping: tuple[int, ...]
    """Widths of the mapping network: the latent's, and that of each layer's output; the last is the code's."""

    def __post_init__(self) -> None:
        check_generator(self.channels, None)
        check_mapping(self.mapping)
        check_image_size(self.image_size, self.channels)

    @property
    def title(self) -> str:
        return "StyleGAN"

    @property
    def block_channels(self) -> list[int]:
        """Two a resolution: what it gives, and its second convolution before noise and style."""
        return map_channels(self.channels)

    @property
    def block_sides(self) -> list[int]:
        return map_sides(self.channels)

    @property
    def peak_values(self) -> int:
        return generator_peak(self.channels)

    def published_features(self) -> FeatureConfig:
        """All maps that are no larger than the image."""
        return FeatureConfig(steps=(), blocks=maps_within(self.channels, self.image_size), truncation=TRUNCATION)

    def build(self) -> StyleGAN:
        return StyleGAN(self.channels, self.mapping, self.image_size)

    def drawing(self, sampling: SamplingConfig) -> LatentDrawing:
        return latent_drawing(self, sampling)
