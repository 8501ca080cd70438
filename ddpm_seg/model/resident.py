"""A bundle's network on a device, ready to read features from."""

from __future__ import annotations

from typing import Any

import torch

from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.device.compiled import compiled
from ddpm_seg.model.device.dtypes import SegmentDType, activations, without_int8
from ddpm_seg.model.device.meta import with_weights
from ddpm_seg.model.features import Extractor
from ddpm_seg.model.networks.ddpm import DDPMConfig, DDPMExtractor
from ddpm_seg.model.networks.image_extractor import ImageExtractor
from ddpm_seg.model.networks.mae import MAE
from ddpm_seg.model.networks.swav import SwAV
from ddpm_seg.model.networks.unet_int8 import to_int8


def resident_extractor(
    bundle: Bundle, device: torch.device | str, dtype: SegmentDType = "float32", *, compile: bool = False
) -> Extractor:
    """The bundle's network in evaluation mode, its tensors taken over rather than copied where types agree.

    int8 is for a DDPM's network, on CPUs with VNNI; elsewhere it raises ValueError. `compile`: as of `compiled`.
    """
    if isinstance(bundle.network, DDPMConfig):
        return resident_ddpm(bundle, device, dtype, compile=compile)
    network = with_weights(bundle.network, bundle.weights)
    network.to(device, activations(without_int8(dtype, bundle.network.title)))
    assert isinstance(network, MAE | SwAV)  # whatever is no DDPM
    if compile:
        network.activations = compiled(network.activations)  # type: ignore[method-assign]
    network.eval().requires_grad_(False)
    return ImageExtractor(network)


def resident_ddpm(
    bundle: Bundle, device: torch.device | str, dtype: SegmentDType = "float32", *, compile: bool = False
) -> DDPMExtractor:
    """The bundle's DDPM, as of `resident_extractor`. Raises BundleError for a bundle without one."""
    network = bundle.ddpm
    unet: Any = with_weights(network, {key: value.float() for key, value in bundle.weights.items()})
    if dtype == "int8":
        to_int8(unet, torch.device(device))
    if dtype != "float32":
        unet.cast_torso(activations(dtype))
    unet.to(device, memory_format=torch.channels_last)
    if compile:
        unet.decode = compiled(unet.decode)
    assert bundle.noise is not None  # Bundle.__post_init__
    return DDPMExtractor(unet.eval().requires_grad_(False), network.diffusion, bundle.noise.to(device))
