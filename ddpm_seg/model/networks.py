"""The networks that features may come from, told apart: in bundle.json, and by what only a DDPM can do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from ddpm_seg.model.bundle_files import NETWORKS_SCHEMA_VERSION, SCHEMA_VERSION, BundleError, with_tuples
from ddpm_seg.model.ddpm import DDPMConfig
from ddpm_seg.model.diffusers_config import DiffusersUNetConfig
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.features import Network
from ddpm_seg.model.mae import MAEConfig
from ddpm_seg.model.swav import SwAVConfig
from ddpm_seg.model.unet import UNetConfig

DIFFUSERS = "diffusers_unet"


def network_to_json(network: Network) -> dict[str, Any]:
    """The sections of `bundle.json` that describe it."""
    if isinstance(network, DDPMConfig):
        diffusion = _diffusion_to_json(network.diffusion)
        if isinstance(network.unet, DiffusersUNetConfig):
            return {DIFFUSERS: dict(network.unet.architecture), "diffusion": diffusion}
        unet = dataclasses.asdict(network.unet)
        # 1 and 1.0 are the same multiplier and must not make two models.
        return {"unet": unet | {"channel_mult": [float(mult) for mult in unet["channel_mult"]]}, "diffusion": diffusion}
    if isinstance(network, MAEConfig | SwAVConfig):
        return {network.kind: dataclasses.asdict(network)}
    raise TypeError(f"{type(network).__name__} is no network of a bundle")


def network_from_json(content: Mapping[str, Any]) -> Network:
    """The network that `bundle.json` describes. Raises KeyError, TypeError or ValueError."""
    for other in (MAEConfig, SwAVConfig):
        if other.kind in content:
            return other(**content[other.kind])
    diffusion = DiffusionConfig(**with_tuples(content["diffusion"]))
    if DIFFUSERS in content:
        return DDPMConfig(unet=DiffusersUNetConfig(architecture=content[DIFFUSERS]), diffusion=diffusion)
    return DDPMConfig(unet=UNetConfig(**with_tuples(content["unet"])), diffusion=diffusion)


def schema_version(network: Network) -> int:
    """Of a bundle with this network: earlier versions of the package read guided-diffusion's UNet alone."""
    known = isinstance(network, DDPMConfig) and isinstance(network.unet, UNetConfig)
    return SCHEMA_VERSION if known else NETWORKS_SCHEMA_VERSION


def _diffusion_to_json(diffusion: DiffusionConfig) -> dict[str, Any]:
    """Without what only diffusers' schedules need, where it is not used: a model keeps the id that it had before."""
    values = dataclasses.asdict(diffusion)
    for name in ("betas", "predict_v"):
        if not values[name]:
            del values[name]
    return values


def weight_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Shape of every entry of the network's state dict; no memory is spent on weights."""
    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in network.build().state_dict().items()}


def require_ddpm(network: Network) -> DDPMConfig:
    """`network` where it is a DDPM. Raises BundleError where it is one that can neither draw nor denoise."""
    if not isinstance(network, DDPMConfig):
        raise BundleError(
            f"this needs a DDPM, which draws images, and the bundle holds a {network.title}; give one that "
            "jobs.pretrain or jobs.convert --ddpm wrote, or that was trained on it"
        )
    return network
