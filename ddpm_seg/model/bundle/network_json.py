"""The networks that features may come from, told apart: in bundle.json, and by what only a DDPM can do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ddpm_seg.model.bundle.files import NETWORKS_SCHEMA_VERSION, SCHEMA_VERSION
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.features import Network
from ddpm_seg.model.json_values import as_object, from_json
from ddpm_seg.model.networks.ddpm import DDPMConfig
from ddpm_seg.model.networks.diffusers_config import DiffusersUNetConfig
from ddpm_seg.model.networks.mae import MAEConfig
from ddpm_seg.model.networks.swav import SwAVConfig
from ddpm_seg.model.networks.unet import UNetConfig

DIFFUSERS, STUDENT = "diffusers_unet", "student"
_SECTIONS: dict[str, Any] = {
    "unet": UNetConfig,
    DIFFUSERS: DiffusersUNetConfig,
    MAEConfig.kind: MAEConfig,
    SwAVConfig.kind: SwAVConfig,
}
"""Of bundle.json: each describes a network."""


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


def network_section(content: Mapping[str, Any]) -> str:
    """Name of the one section of `bundle.json` that describes a network. Raises ValueError for several, or none."""
    names = [name for name in (*_SECTIONS, STUDENT) if name in content]
    if len(names) != 1:
        raise ValueError(f"it describes {' and '.join(names) or 'no network'}, expected one of {[*_SECTIONS, STUDENT]}")
    return names[0]


def network_from_json(content: Mapping[str, Any]) -> Network:
    """The network that `bundle.json` describes. Raises ValueError, naming the key."""
    section = network_section(content)
    if section in (MAEConfig.kind, SwAVConfig.kind):
        return from_json(_SECTIONS[section], content[section], section)
    diffusion = from_json(DiffusionConfig, content.get("diffusion"), "diffusion")
    if section == DIFFUSERS:
        architecture = as_object(content[section], section)
        return DDPMConfig(unet=DiffusersUNetConfig(architecture=architecture), diffusion=diffusion)
    return DDPMConfig(unet=from_json(UNetConfig, content[section], section), diffusion=diffusion)


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


def require_ddpm(network: Network) -> DDPMConfig:
    """`network` where it is a DDPM. Raises BundleError where it is one that can neither draw nor denoise."""
    if not isinstance(network, DDPMConfig):
        raise BundleError(
            f"this needs a DDPM, which draws images, and the bundle holds a {network.title}; give one that "
            "jobs.pretrain or jobs.convert --ddpm wrote, or that was trained on it"
        )
    return network
