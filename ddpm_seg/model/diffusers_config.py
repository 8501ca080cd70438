"""What a bundle says of a `UNet2DModel` of Hugging Face diffusers; nothing of diffusers is needed to read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ddpm_seg.model.diffusers_unet import DiffusersUNet

BLOCKS = ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D")


@dataclass(frozen=True, kw_only=True)
class DiffusersUNetConfig:
    """The arguments of `UNet2DModel`, as in its config.json; blocks are its up-blocks, the deepest first."""

    architecture: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Raises ValueError for a network that is not unconditional, not of images or not of known blocks."""
        given = self.architecture
        if not isinstance(self.image_size, int) or self.image_size < 1:
            raise ValueError(f"sample_size must be the side of a square, got {self.image_size!r}")
        if given.get("in_channels", 3) != 3 or given.get("out_channels", 3) not in (3, 6):
            raise ValueError(
                f"in_channels {given.get('in_channels')} and out_channels {given.get('out_channels')}: expected a "
                "network of images with 3 channels (this may be one of latents)"
            )
        if conditions := [name for name in ("class_embed_type", "num_class_embeds") if given.get(name) is not None]:
            raise ValueError(f"{conditions[0]} is {given[conditions[0]]!r}: expected a network without conditions")
        if given.get("time_embedding_type", "positional") != "positional":
            raise ValueError(
                f"time_embedding_type is {given['time_embedding_type']!r}: expected 'positional', of a network that "
                "was trained on timesteps"
            )
        if unknown := [block for block in given["down_block_types"] if block not in BLOCKS]:
            raise ValueError(f"down_block_types has {unknown[0]!r}: expected some of {', '.join(BLOCKS)}")
        if self.image_size % self.stride:
            raise ValueError(f"sample_size {self.image_size} must be a multiple of {self.stride}")

    @property
    def image_size(self) -> int:
        return self.architecture["sample_size"]

    @property
    def stride(self) -> int:
        """Side lengths of inputs must be multiples of this."""
        return 2 ** (len(self._channels) - 1)

    @property
    def base_channels(self) -> int:
        """Of the maps at the image's own resolution."""
        return self._channels[0]

    @property
    def block_channels(self) -> list[int]:
        """Channels of every up-block's output."""
        return self._channels[::-1]

    @property
    def block_strides(self) -> list[int]:
        """Input pixels per activation pixel of every up-block, its own upsampling included."""
        last = len(self._channels) - 1
        return [2 ** max(0, last - 1 - index) for index in range(last + 1)]

    @property
    def _channels(self) -> list[int]:
        return list(self.architecture["block_out_channels"])

    def build(self) -> DiffusersUNet:
        """Raises ModuleNotFoundError where diffusers is not installed, with what to install."""
        try:
            from ddpm_seg.model.diffusers_unet import DiffusersUNet
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}: this network needs pip install 'ddpm_seg[diffusers]'") from error

        return DiffusersUNet(self.architecture)
