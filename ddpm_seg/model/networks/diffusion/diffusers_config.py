"""The description in bundle.json of a `UNet2DModel` from Hugging Face diffusers; reading it does not need diffusers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ddpm_seg.model.json_values import from_json, shown
from ddpm_seg.model.limits import MAX_BLOCKS_PER_LEVEL, MAX_CHANNELS, MAX_IMAGE_SIZE, MAX_LEVELS, check_range

if TYPE_CHECKING:
    from ddpm_seg.model.networks.diffusion.diffusers_unet import DiffusersUNet

BLOCKS = ("DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D")
UP_BLOCKS = ("UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Arguments:
    """Arguments of `UNet2DModel` that set its size or that its code divides by, with their types."""

    sample_size: int
    down_block_types: tuple[str, ...]
    up_block_types: tuple[str, ...]
    block_out_channels: tuple[int, ...]
    in_channels: int = 3
    out_channels: int = 3
    layers_per_block: int = 2
    center_input_sample: bool = False
    flip_sin_to_cos: bool = True
    add_attention: bool = True
    freq_shift: int = 0
    time_embedding_dim: int | None = None
    downsample_padding: int = 1
    mid_block_scale_factor: float = 1.0
    dropout: float = 0.0
    norm_num_groups: int = 32
    attn_norm_num_groups: int | None = None
    attention_head_dim: int | None = 8
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        check_range("sample_size", self.sample_size, MAX_IMAGE_SIZE)
        check_range("layers_per_block", self.layers_per_block, MAX_BLOCKS_PER_LEVEL)
        check_range("number of block_out_channels", len(self.block_out_channels), MAX_LEVELS)
        for channels in self.block_out_channels:
            check_range("block_out_channels", channels, MAX_CHANNELS)
        for name in ("time_embedding_dim", "norm_num_groups", "attn_norm_num_groups", "attention_head_dim"):
            if (value := getattr(self, name)) is not None:
                check_range(name, value, MAX_CHANNELS)
        for name in ("down_block_types", "up_block_types"):
            if (count := len(getattr(self, name))) != len(self.block_out_channels):
                raise ValueError(f"{name} has {count} blocks, but block_out_channels {len(self.block_out_channels)}")
        if self.freq_shift not in (0, 1):
            raise ValueError(f"freq_shift must be 0 or 1, got {self.freq_shift}")
        if not self.mid_block_scale_factor > 0 or not 0 <= self.dropout < 1 or not self.norm_eps > 0:
            raise ValueError(
                f"mid_block_scale_factor {self.mid_block_scale_factor}, dropout {self.dropout} and norm_eps "
                f"{self.norm_eps}: expected positive numbers, and a dropout of 0 to 1"
            )


@dataclass(frozen=True, kw_only=True)
class DiffusersUNetConfig:
    """The arguments of `UNet2DModel`, as in its config.json; its blocks are the up-blocks, deepest first."""

    architecture: Mapping[str, Any]

    def __post_init__(self) -> None:
        """Raises ValueError unless the network is unconditional, takes images and has known blocks."""
        given = self.architecture
        if type(size := given.get("sample_size")) is not int:
            raise ValueError(f"sample_size must be the side of a square, got {shown(size)}")
        known = {field.name for field in fields(_Arguments)}
        # Arguments of later versions of diffusers are left to diffusers itself.
        from_json(_Arguments, {name: value for name, value in given.items() if name in known}, "diffusers_unet")
        if given.get("in_channels", 3) != 3 or given.get("out_channels", 3) not in (3, 6):
            raise ValueError(
                f"in_channels {given.get('in_channels')} and out_channels {given.get('out_channels')}: expected a "
                "network for images with 3 channels (this one may be for latents)"
            )
        if conditions := [name for name in ("class_embed_type", "num_class_embeds") if given.get(name) is not None]:
            raise ValueError(f"{conditions[0]} is {shown(given[conditions[0]])}: expected a network without conditions")
        if given.get("time_embedding_type", "positional") != "positional":
            raise ValueError(
                f"time_embedding_type is {shown(given['time_embedding_type'])}: expected 'positional', for a network "
                "that was trained on timesteps"
            )
        for name, known_blocks in (("down_block_types", BLOCKS), ("up_block_types", UP_BLOCKS)):
            if unknown := [block for block in given[name] if block not in known_blocks]:
                raise ValueError(f"{name} has {shown(unknown[0])}: expected some of {', '.join(known_blocks)}")
        if self.image_size % self.stride:
            raise ValueError(f"sample_size {self.image_size} must be a multiple of {self.stride}")

    def at_side(self, side: int) -> DiffusersUNetConfig:
        """The same layers for images of that side. Raises ValueError if `stride` does not divide it."""
        return DiffusersUNetConfig(architecture={**self.architecture, "sample_size": side})

    @property
    def image_size(self) -> int:
        return self.architecture["sample_size"]

    @property
    def stride(self) -> int:
        """The sides of inputs must be multiples of this."""
        return 2 ** (len(self._channels) - 1)

    @property
    def base_channels(self) -> int:
        """Channels of the maps at the image's own resolution."""
        return self._channels[0]

    @property
    def block_channels(self) -> list[int]:
        """Channels of each up-block's output."""
        return self._channels[::-1]

    @property
    def block_strides(self) -> list[int]:
        """Input pixels per activation pixel for each up-block, after its own upsampling."""
        last = len(self._channels) - 1
        return [2 ** max(0, last - 1 - index) for index in range(last + 1)]

    @property
    def _channels(self) -> list[int]:
        return list(self.architecture["block_out_channels"])

    def build(self) -> DiffusersUNet:
        """The network. Raises ModuleNotFoundError, with what to install, if diffusers is missing."""
        try:
            from ddpm_seg.model.networks.diffusion.diffusers_unet import DiffusersUNet
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}: this network needs pip install 'ddpm_seg[diffusers]'") from error

        return DiffusersUNet(self.architecture)
