"""A latent diffusion model (Stable Diffusion 1, 2 and XL) as a source of features: an autoencoder, then a UNet that is
given a prompt."""

# Shapes: N images of S x S pixels, s x s latents, L tokens of a prompt with E values each, and P as a whole.

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ddpm_seg.model.device.compiled import compiled
from ddpm_seg.model.device.dtypes import activations
from ddpm_seg.model.device.meta import with_weights
from ddpm_seg.model.device.peak import peak_values
from ddpm_seg.model.device.runtime import Runtime
from ddpm_seg.model.diffusion import Diffusion, DiffusionConfig
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.json_values import as_object, from_json, shown
from ddpm_seg.model.limits import MAX_CHANNELS, MAX_IMAGE_SIZE, MAX_LEVELS, check_range
from ddpm_seg.model.network import Checkpoint
from ddpm_seg.model.networks.diffusion.ddpm import diffusion_to_json
from ddpm_seg.model.networks.diffusion.ddpm_extractor import extract
from ddpm_seg.model.networks.library_network import check_arguments
from ddpm_seg.model.networks.pixel_values import to_network
from ddpm_seg.model.networks.plain_network import PlainNetwork

STEP, OF = 100, 1000
"""Where A Tale of Two Features (Zhang et al., NeurIPS 2023) reads Stable Diffusion: at this timestep of 1000, from all
up-blocks but the last."""
_CONDITIONS = (
    "class_embed_type",
    "encoder_hid_dim_type",
    "time_cond_proj_dim",
    "num_class_embeds",
)
_SIZES = 6
"""Numbers that tell Stable Diffusion XL the size of the picture, its crop's corner, and the size to draw."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LatentDiffusionConfig(PlainNetwork):
    """The config.json of diffusers' `UNet2DConditionModel` and `AutoencoderKL`, and the noise schedule."""

    kind: ClassVar[str] = "latent_diffusion"
    checkpoints: ClassVar[tuple[Checkpoint, ...]] = ()  # --diffusers, which belongs to DDPMs too
    reads_images: ClassVar[bool] = True

    unet: dict[str, Any]
    vae: dict[str, Any]
    image_size: int
    prompt_tokens: int
    """Tokens of the prompt, whose embedding is among the weights."""
    diffusion: DiffusionConfig

    def __post_init__(self) -> None:
        check_range("image_size", self.image_size, MAX_IMAGE_SIZE)
        check_range("prompt_tokens", self.prompt_tokens, MAX_CHANNELS)
        for name, given in (("unet", self.unet), ("vae", self.vae)):
            check_arguments(given)
            channels = given.get("block_out_channels")
            if not isinstance(channels, list | tuple) or not all(type(one) is int for one in channels):
                raise ValueError(f"{name}.block_out_channels is {shown(channels)}, expected a list of integers")
            check_range(f"number of {name}.block_out_channels", len(channels), MAX_LEVELS)
            for one in channels:
                check_range(f"{name}.block_out_channels", one, MAX_CHANNELS)
        for name in _CONDITIONS:
            if self.unet.get(name) is not None:
                raise ValueError(
                    f"unet.{name} is {shown(self.unet[name])}: expected a network that is given only a prompt"
                )
        self._check_addition()
        if type(self.unet.get("cross_attention_dim", 1280)) is not int:
            raise ValueError(
                f"unet.cross_attention_dim is {shown(self.unet['cross_attention_dim'])}, expected an integer"
            )
        latents = self.vae.get("latent_channels", 4)
        if type(latents) is not int or self.unet.get("in_channels", 4) != latents:
            raise ValueError(
                f"unet.in_channels is {shown(self.unet.get('in_channels', 4))}, but the autoencoder has "
                f"{shown(latents)} latent_channels (this one may be for inpainting)"
            )
        for name in ("scaling_factor", "shift_factor"):
            if not isinstance(self.vae.get(name, 1.0) or 0.0, int | float):
                raise ValueError(f"vae.{name} is {shown(self.vae[name])}, expected a number")
        if self.image_size % self.multiple:
            raise ValueError(f"image_size {self.image_size} must be a multiple of {self.multiple}")

    def _check_addition(self) -> None:
        kind = self.unet.get("addition_embed_type")
        if kind not in (None, "text_time"):
            raise ValueError(f"unet.addition_embed_type is {shown(kind)}: expected none, or text_time")
        given = [self.unet.get(name) for name in ("addition_time_embed_dim", "projection_class_embeddings_input_dim")]
        if kind is None:
            return
        if not all(type(one) is int for one in given) or self.pooled_values < 1:
            raise ValueError(
                "unet.addition_embed_type is 'text_time', but addition_time_embed_dim and "
                f"projection_class_embeddings_input_dim are {shown(given[0])} and {shown(given[1])}: expected integers "
                f"that leave room for {_SIZES} times the first in the second"
            )
        check_range("unet.projection_class_embeddings_input_dim", given[1] or 0, MAX_CHANNELS)

    @property
    def pooled_values(self) -> int:
        """Values of the embedding of the whole prompt, of Stable Diffusion XL; 0 for others."""
        if self.unet.get("addition_embed_type") is None:
            return 0
        sizes = _SIZES * self.unet["addition_time_embed_dim"]
        return int(self.unet["projection_class_embeddings_input_dim"] - sizes)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> LatentDiffusionConfig:
        given = as_object(content[cls.kind], cls.kind)
        diffusion = from_json(DiffusionConfig, content.get("diffusion"), "diffusion")
        if unknown := sorted(given.keys() - {"unet", "vae", "image_size", "prompt_tokens"}):
            raise ValueError(f"{cls.kind}.{shown(unknown[0])} is unknown")
        numbers = {name: given.get(name) for name in ("image_size", "prompt_tokens")}
        if wrong := [name for name, value in numbers.items() if type(value) is not int]:
            raise ValueError(f"{cls.kind}.{wrong[0]} is {shown(numbers[wrong[0]])}, expected an integer")
        parts = {name: as_object(given.get(name), f"{cls.kind}.{name}") for name in ("unet", "vae")}
        return cls(**parts, **numbers, diffusion=diffusion)  # type: ignore[arg-type]

    def to_json(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("unet", "vae", "image_size", "prompt_tokens")}
        return {self.kind: own, "diffusion": diffusion_to_json(self.diffusion)}

    @property
    def title(self) -> str:
        return "latent diffusion model"

    @property
    def schema_version(self) -> int:
        return 4

    @property
    def timesteps(self) -> int:
        return self.diffusion.steps

    @property
    def vae_stride(self) -> int:
        return 2 ** (len(self.vae["block_out_channels"]) - 1)

    @property
    def multiple(self) -> int:
        """What sides of images must be multiples of."""
        return self.vae_stride * 2 ** (len(self.unet["block_out_channels"]) - 1)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        side = self.image_size // self.vae_stride
        return (1, self.vae.get("latent_channels", 4), side, side)

    @property
    def block_channels(self) -> list[int]:
        """Channels of each up-block's output, deepest block first."""
        return list(self.unet["block_out_channels"])[::-1]

    @property
    def block_sides(self) -> list[int]:
        last = len(self.unet["block_out_channels"]) - 1
        return [self.noise_shape[2] // 2 ** max(0, last - 1 - index) for index in range(last + 1)]

    @property
    def peak_values(self) -> int:
        """Values in memory at the peak of one image's pass, measured on the meta device."""
        with torch.device("meta"):
            network = self.build().eval()
        blocks = range(len(self.block_channels))

        def run() -> list[Tensor]:
            latents = network.encode(torch.zeros(1, 3, self.image_size, self.image_size))
            return network.activations(latents, torch.zeros(1, dtype=torch.int64), blocks)

        return peak_values(run)

    def published_features(self) -> FeatureConfig:
        depth = len(self.block_channels)
        return FeatureConfig(steps=(STEP * self.timesteps // OF,), blocks=tuple(range(max(1, depth - 1))))

    def build(self) -> LatentDiffusion:
        """Raises ModuleNotFoundError, with what to install, if diffusers is missing."""
        try:
            return LatentDiffusion(self)
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(f"{error}: this network needs pip install 'ddpm_seg[diffusers]'") from error

    def extractor(self, weights: Mapping[str, Tensor], noise: Tensor | None, runtime: Runtime) -> LatentExtractor:
        self.check_dtype(runtime.dtype)
        assert noise is not None  # `Bundle` has checked it
        network: Any = with_weights(self, {key: value.float() for key, value in weights.items()})
        network.to(runtime.device)
        network.unet.to(activations(runtime.dtype), memory_format=torch.channels_last)  # the autoencoder stays float32
        if runtime.compile:
            network.decode = compiled(network.decode)
        return LatentExtractor(
            network.eval().requires_grad_(False), Diffusion(self.diffusion), noise.to(runtime.device)
        )


class LatentDiffusion(nn.Module):
    """Encoder of the autoencoder and UNet, without what comes after the last up-block, and the prompt's embedding."""

    def __init__(self, config: LatentDiffusionConfig) -> None:
        from diffusers import AutoencoderKL, UNet2DConditionModel

        super().__init__()
        vae: Any = AutoencoderKL(**config.vae)
        self.encoder, self.quant_conv = vae.encoder, vae.quant_conv
        self.prompt: Tensor
        self.scale, self.shift = vae.config.scaling_factor, vae.config.shift_factor or 0.0
        unet: Any = UNet2DConditionModel(**config.unet)
        unet.conv_norm_out = unet.conv_out = None
        self.unet: Any = unet
        self.register_buffer("prompt", torch.zeros(1, config.prompt_tokens, unet.config.cross_attention_dim))
        self.pooled: Tensor | None
        self.register_buffer("pooled", torch.zeros(1, config.pooled_values) if config.pooled_values else None)
        self.image_size = config.image_size

    def encode(self, x: Tensor) -> Tensor:
        """Latents (N, C, s, s) of images `x` (N, 3, S, S) in [-1, 1]: the mean of the autoencoder's distribution."""
        moments = self.encoder(x)
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        return (moments.chunk(2, dim=1)[0] - self.shift) * self.scale

    def activations(self, x_t: Tensor, t_N: Tensor, blocks: Collection[int]) -> list[Tensor]:
        """Outputs of the up-blocks `blocks`, in ascending order; computes nothing after the last one."""
        return self.decode(x_t, t_N, last=max(blocks), keep=frozenset(blocks))

    def decode(self, x_t: Tensor, t_N: Tensor, *, last: int, keep: frozenset[int]) -> list[Tensor]:
        """Does what UNet2DConditionModel.forward does, up to up-block `last`."""
        unet = self.unet
        x = unet.conv_in((2 * x_t - 1 if unet.config.center_input_sample else x_t).to(unet.dtype))
        emb = unet.time_embedding(unet.time_proj(t_N).to(unet.dtype))
        if unet.time_embed_act is not None:
            emb = unet.time_embed_act(emb)
        prompt = self.prompt.to(unet.dtype).expand(len(x), -1, -1)
        if self.pooled is not None:  # as if the whole picture, at its size, were to be drawn
            size = self.image_size
            sizes = torch.tensor([[size, size, 0, 0, size, size]], device=x.device).expand(len(x), -1)
            added = {"text_embeds": self.pooled.expand(len(x), -1), "time_ids": sizes}
            emb = emb + unet.get_aug_embed(emb=emb, encoder_hidden_states=prompt, added_cond_kwargs=added)

        def given(block: Any) -> dict[str, Tensor]:
            return {"encoder_hidden_states": prompt} if getattr(block, "has_cross_attention", False) else {}

        skips: tuple[Tensor, ...] = (x,)
        for block in unet.down_blocks:
            x, outputs = block(hidden_states=x, temb=emb, **given(block))
            skips += outputs
        if unet.mid_block is not None:
            x = unet.mid_block(x, emb, **given(unet.mid_block))
        kept = []
        for index, block in enumerate(unet.up_blocks[: last + 1]):
            count = len(block.resnets)
            x = block(hidden_states=x, temb=emb, res_hidden_states_tuple=skips[-count:], **given(block))
            skips = skips[:-count]
            if index in keep:
                kept.append(x)
        return kept


class LatentExtractor:
    """A resident latent diffusion model, and the noise (1, C, s, s) shared by all images."""

    def __init__(self, network: LatentDiffusion, diffusion: Diffusion, noise: Tensor) -> None:
        self.network: Any = network
        self.diffusion, self.noise = diffusion, noise

    def __call__(
        self, images: NDArray[np.uint8], features: FeatureConfig, *, micro_batch: int | None = None
    ) -> list[Tensor]:
        """Maps of `images` (N, S, S, 3) uint8; see `features.Extractor`."""
        x = to_network(images, self.noise.device)
        latents = torch.cat([self.network.encode(part) for part in x.split(micro_batch or len(x))])
        return extract(self.network, self.diffusion, latents, self.noise, features, micro_batch=micro_batch)
