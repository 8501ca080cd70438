"""Reads Stable Diffusion pipelines of diffusers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn

from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.json_values import one_line, shown
from ddpm_seg.model.networks.diffusion.latent import LatentDiffusionConfig
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.diffusers.files import Folder
from ddpm_seg.model.published.diffusers.library_folder import (
    Whole,
    chosen_side,
    kept_weights,
    read_whole,
)
from ddpm_seg.model.published.diffusers.prompt import Embedding, embedding
from ddpm_seg.model.published.diffusers.schedule import diffusion_of
from ddpm_seg.model.published.diffusers.weights import DIFFUSERS
from ddpm_seg.model.published.loading import Loaded

PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
)
"""Pipelines of a UNet2DConditionModel that sees latents of an AutoencoderKL, with CLIP's text encoders."""
UNET, VAE, SCHEDULER = "unet", "vae", "scheduler"


def is_latent(folder: Folder) -> bool:
    """Whether the folder is of one of PIPELINES, with an autoencoder."""
    index = folder.read_json("model_index.json") or {}
    return index.get("_class_name") in PIPELINES and VAE in index


def load_latent(config: ConvertConfig, folder: Folder) -> Loaded:
    """The latent diffusion model in `folder`, for --image-size, with the embedding of --prompt.

    Raises ValueError for parts of other classes, and for weights that are missing, unknown, of another shape or not
    finite; FileNotFoundError if a part is missing.
    """
    unet, vae = (_arguments(folder, part) for part in (UNET, VAE))
    prompt = embedding(folder, config.prompt or "")
    try:
        network = _described(folder, unet, vae, prompt.tokens.shape[1], config.image_size)
        _check_pooled(network, prompt)
    except ValueError as error:
        raise ValueError(f"{folder.name}: {one_line(error)}") from error
    expected = weight_shapes(network)
    autoencoder: Any = read_whole(_whole("AutoencoderKL", vae), folder, VAE, DIFFUSERS)
    denoiser = read_whole(_whole("UNet2DConditionModel", unet), folder, UNET, DIFFUSERS)
    parts = {"encoder": autoencoder.encoder, "quant_conv": autoencoder.quant_conv, "unet": denoiser}
    whole = nn.ModuleDict({name: part for name, part in parts.items() if part is not None})
    whole.register_buffer("prompt", prompt.tokens)
    whole.register_buffer("pooled", prompt.pooled)
    return Loaded(
        network=network,
        weights=kept_weights(whole, expected, folder.name),
        provenance={"prompt": config.prompt or "", "license": folder.licence()},
    )


def _check_pooled(network: LatentDiffusionConfig, prompt: Embedding) -> None:
    found = 0 if prompt.pooled is None else prompt.pooled.shape[1]
    if network.pooled_values != found:
        raise ValueError(
            f"unet.addition_embed_type is {shown(network.unet.get('addition_embed_type'))}: it takes "
            f"{network.pooled_values} values of the whole prompt, but the text encoders give {found}"
        )


def _described(
    folder: Folder, unet: dict[str, Any], vae: dict[str, Any], tokens: int, image_size: int | None
) -> LatentDiffusionConfig:
    _, scheduler = folder.read_part((SCHEDULER,), "scheduler_config.json")
    levels = [given.get("block_out_channels") for given in (unet, vae)]
    if not all(isinstance(one, list) and one for one in levels):
        raise ValueError(f"block_out_channels is {shown(levels[0])} and {shown(levels[1])}, expected lists")
    multiple = 2 ** (sum(len(one) for one in levels if one) - 2)
    sample = unet.get("sample_size")
    own = sample * 2 ** (len(levels[1] or ()) - 1) if type(sample) is int else 512
    return LatentDiffusionConfig(
        unet=unet,
        vae=vae,
        image_size=chosen_side(image_size, own, multiple),
        prompt_tokens=tokens,
        diffusion=diffusion_of(scheduler),
    )


def _whole(name: str, arguments: Mapping[str, Any]) -> Whole:
    """The class of diffusers with that name."""
    import diffusers

    return Whole(title=name, build=partial(getattr(diffusers, name), **arguments))


def _arguments(folder: Folder, part: str) -> dict[str, Any]:
    """The arguments in the part's config.json. Raises ValueError for another class, and for unknown arguments."""
    import diffusers

    name = {UNET: "UNet2DConditionModel", VAE: "AutoencoderKL"}[part]
    _, found = folder.read_part((part,), "config.json")
    where = folder.named(part, "config.json")
    if found.get("_class_name", name) != name:
        raise ValueError(f"{where}: its network is a {shown(found['_class_name'])}, expected {name}")
    known = inspect.signature(getattr(diffusers, name).__init__).parameters
    given = {key: value for key, value in found.items() if not key.startswith("_")}
    if unknown := sorted(given.keys() - known.keys() | given.keys() & {"self"}):
        raise ValueError(f"{where}: {shown(unknown[0])} is no argument of diffusers' {name}")
    return given
