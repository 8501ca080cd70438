"""StyleGAN2 (Karras et al., CVPR 2020) as a network that draws images along with their features, as in DatasetGAN.

DatasetGAN (Zhang et al., CVPR 2021) reads the generator's own maps, so it can label only what it draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ddpm_seg.model.network import Checkpoint
from ddpm_seg.model.networks.style.style_network import StyleNetwork
from ddpm_seg.model.networks.style.stylegan2_generator import StyleGAN2, check_generator


@dataclass(frozen=True, kw_only=True, slots=True)
class StyleGAN2Config(StyleNetwork):
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

    conv_clamp: float | None = None
    """Largest activation."""

    def __post_init__(self) -> None:
        StyleNetwork.__post_init__(self)  # super() does not know a class that slots=True makes anew
        check_generator(self.channels, self.conv_clamp)

    @property
    def title(self) -> str:
        return "StyleGAN2"

    def build(self) -> StyleGAN2:
        return StyleGAN2(self.channels, self.mapping, self.conv_clamp, self.image_size)
