"""The first StyleGAN (Karras et al., CVPR 2019), whose own maps DatasetGAN read (Zhang et al., CVPR 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ddpm_seg.model.network import Checkpoint
from ddpm_seg.model.networks.style.style_network import StyleNetwork
from ddpm_seg.model.networks.style.stylegan_generator import StyleGAN


@dataclass(frozen=True, kw_only=True, slots=True)
class StyleGANConfig(StyleNetwork):
    """Architecture of a generator that gives its image at the last resolution.

    It has two blocks per resolution: its output, and its second convolution before noise and style.
    """

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

    @property
    def title(self) -> str:
        return "StyleGAN"

    def build(self) -> StyleGAN:
        return StyleGAN(self.channels, self.mapping, self.image_size)
