"""A bundle's network on a device, ready to read features from."""

from __future__ import annotations

import torch

from ddpm_seg.model.bundle import Bundle
from ddpm_seg.model.compiled import compiled
from ddpm_seg.model.ddpm import DDPMExtractor
from ddpm_seg.model.dtypes import SegmentDType, activations
from ddpm_seg.model.features import Extractor
from ddpm_seg.model.int8 import to_int8
from ddpm_seg.model.unet import UNet


def resident_extractor(
    bundle: Bundle, device: torch.device | str, dtype: SegmentDType = "float32", *, compile: bool = False
) -> Extractor:
    """The bundle's network in evaluation mode, its tensors taken over rather than copied where types agree."""
    return resident_ddpm(bundle, device, dtype, compile=compile)


def resident_ddpm(
    bundle: Bundle, device: torch.device | str, dtype: SegmentDType = "float32", *, compile: bool = False
) -> DDPMExtractor:
    """The bundle's DDPM, as of `resident_extractor`. Raises BundleError for a bundle without one."""
    network = bundle.ddpm
    with torch.device("meta"):
        unet = UNet(network.unet)
    unet.load_state_dict({key: value.float() for key, value in bundle.weights.items()}, assign=True)
    if dtype == "int8":
        to_int8(unet, torch.device(device))
    if dtype != "float32":
        unet.cast_torso(activations(dtype))
    unet.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compile:
        unet.decode = compiled(unet.decode)  # type: ignore[method-assign]
    assert bundle.noise is not None  # Bundle.__post_init__
    return DDPMExtractor(unet.eval().requires_grad_(False), network.diffusion, bundle.noise.to(device))
