"""The networks that features may come from, told apart: in bundle.json, and by what only a DDPM can do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch

from ddpm_seg.model.bundle_files import BundleError, with_tuples
from ddpm_seg.model.ddpm import DDPMConfig
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.features import Network
from ddpm_seg.model.mae import MAEConfig
from ddpm_seg.model.swav import SwAVConfig
from ddpm_seg.model.unet import UNetConfig


def network_to_json(network: Network) -> dict[str, Any]:
    """The sections of `bundle.json` that describe it."""
    if isinstance(network, DDPMConfig):
        unet, diffusion = dataclasses.asdict(network.unet), dataclasses.asdict(network.diffusion)
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
    unet, diffusion = UNetConfig(**with_tuples(content["unet"])), DiffusionConfig(**content["diffusion"])
    return DDPMConfig(unet=unet, diffusion=diffusion)


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
