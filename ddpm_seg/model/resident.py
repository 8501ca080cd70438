"""Puts a bundle's network on a device, to read features or to draw."""

from __future__ import annotations

import torch

from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.device.dtypes import DType
from ddpm_seg.model.device.processor import prepare
from ddpm_seg.model.device.runtime import Runtime
from ddpm_seg.model.features import Extractor
from ddpm_seg.model.samples.drawing import Drawer
from ddpm_seg.model.samples.sampling import SamplingConfig


def resident_extractor(
    bundle: Bundle, device: torch.device | str, dtype: DType = "float32", *, compile: bool = False
) -> Extractor:
    """The bundle's network in evaluation mode. Uses the bundle's tensors themselves, without copying, if their types
    agree.

    `compile`: see `compiled`. Raises BundleError if the network does not read images, ValueError for a number format
    that it cannot run in.
    """
    prepare(device, dtype)
    runtime = Runtime(device=torch.device(device), dtype=dtype, compile=compile)
    return bundle.network.extractor(bundle.weights, bundle.noise, runtime)


def resident_drawer(
    bundle: Bundle,
    sampling: SamplingConfig,
    device: torch.device | str,
    dtype: DType = "float32",
    *,
    batch_size: int | None = None,
    compile: bool = False,
) -> Drawer:
    """Draws images with the bundle's network; by default, as many at once as should fit into memory.

    Raises BundleError if the network does not draw images, ValueError for `sampling` that it does not support.
    """
    prepare(device, dtype)
    runtime = Runtime(device=torch.device(device), dtype=dtype, compile=compile)
    return bundle.network.drawing(sampling).drawer(bundle.weights, bundle.noise, runtime, batch_size)
