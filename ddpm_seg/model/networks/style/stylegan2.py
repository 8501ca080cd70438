"""StyleGAN2 (Karras et al., CVPR 2020) as a network that draws images along with their features, as in DatasetGAN.

DatasetGAN (Zhang et al., CVPR 2021) reads the generator's own maps, so it can label only what it draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.network import Checkpoint
from ddpm_seg.model.networks.plain_network import PlainNetwork
from ddpm_seg.model.networks.style.latent_drawing import TRUNCATION, LatentDrawing, latent_drawing
from ddpm_seg.model.networks.style.stylegan2_generator import (
    StyleGAN2,
    check_generator,
    check_image_size,
    check_mapping,
    generator_peak,
    map_channels,
    map_sides,
    maps_within,
)
from ddpm_seg.model.sampling import SamplingConfig


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
    """Widths in the mapping network: of the latent z, then of each layer's output. The last is that of the code w."""
    conv_clamp: float | None = None
    """Largest activation."""

    def __post_init__(self) -> None:
        check_generator(self.channels, self.conv_clamp)
        check_mapping(self.mapping)
        check_image_size(self.image_size, self.channels)

    @property
    def title(self) -> str:
        return "StyleGAN2"

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

    def drawing(self, sampling: SamplingConfig) -> LatentDrawing:
        return latent_drawing(self, sampling)
