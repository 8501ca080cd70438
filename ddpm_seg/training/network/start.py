"""The network that a training goes on from: that of a bundle, for other images or another size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.checks import flag
from ddpm_seg.fits import FitMode, fit_of
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, read_header
from ddpm_seg.model.bundle.network_json import require_ddpm
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.training.network.pretrain_config import PretrainDDPMConfig

FLAGS = ("num_channels", "num_res_blocks", "channel_mult", "attention_resolutions", "noise_schedule")
"""Flags of the network, which the bundle decides."""
OUTPUT = ("out.2.weight", "out.2.bias")
"""Weights of the last layer: three channels of noise, and three of variances if they are learnt."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A DDPM whose weights a training begins with."""

    uri: str
    model_id: str
    unet: UNetConfig
    """At the side that it shall be trained at, and without learnt variances, which nothing trains here."""
    diffusion: DiffusionConfig
    fit: FitMode
    """How the images were fitted that it learned from."""

    def weights(self) -> Mapping[str, Tensor]:
        """Its state dict. Raises BundleError if the file is damaged or another bundle is there by now."""
        weights = load_bundle(self.uri, self.model_id).weights
        return {key: value[:3] if key in OUTPUT else value for key, value in weights.items()}


def find_start(config: PretrainDDPMConfig) -> Start | None:
    """The DDPM at `config.start_from`; None if a training begins with random weights.

    Raises BundleError if there is no DDPM, ValueError if it cannot be trained here or a flag asks for another network.
    """
    if config.start_from is None:
        return None
    header, name = read_header(config.start_from), storage.redact(config.start_from)
    network = require_ddpm(header.network)
    if not isinstance(network.unet, UNetConfig):
        raise ValueError(f"--start-from {name}: it is a network of diffusers; only guided-diffusion's are trained here")
    if network.diffusion.predict_xstart or network.diffusion.predict_v:
        raise ValueError(f"--start-from {name}: it does not predict noise, which networks are trained for here")
    side = network.image_size if config.image_size is None else config.image_size
    unet = replace(network.unet.at_side(side), learn_sigma=False)
    found = Start(
        uri=config.start_from,
        model_id=header.model_id,
        unet=unet,
        diffusion=network.diffusion,
        fit=fit_of(header.provenance),
    )
    _refuse_another_network(config, found, name)
    return found


def _refuse_another_network(config: PretrainDDPMConfig, start: Start, name: str) -> None:
    """A flag that was given says what the network has; one that was not has its default."""
    default: dict[str, Any] = {field.name: field.default for field in fields(config)}
    for option in FLAGS:
        owner = start.diffusion if option == "noise_schedule" else start.unet
        asked, there = getattr(config, option), getattr(owner, option)
        if asked != default[option] and asked != there:
            raise ValueError(f"{flag(option)} is {asked}, but the network at {name} has {there}: leave it out")
