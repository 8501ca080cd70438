"""A bundle's network on a device, ready to read features from or to draw."""

from __future__ import annotations

import torch

from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.device.dtypes import SegmentDType
from ddpm_seg.model.device.runtime import Runtime
from ddpm_seg.model.drawing import Drawer
from ddpm_seg.model.features import Extractor
from ddpm_seg.model.sampling import SamplingConfig


def resident_extractor(
    bundle: Bundle, device: torch.device | str, dtype: SegmentDType = "float32", *, compile: bool = False
) -> Extractor:
    """The bundle's network in evaluation mode, its tensors taken over rather than copied where types agree.

    Raises BundleError for a network that does not read images, and ValueError for a number format that it does not run
    in. `compile`: see `compiled`.
    """
    runtime = Runtime(device=torch.device(device), dtype=dtype, compile=compile)
    return bundle.network.extractor(bundle.weights, bundle.noise, runtime)


def resident_drawer(
    bundle: Bundle,
    sampling: SamplingConfig,
    device: torch.device | str,
    dtype: SegmentDType = "float32",
    *,
    batch_size: int | None = None,
    compile: bool = False,
) -> Drawer:
    """What draws images with the bundle's network, by default as many at once as may fit.

    Raises BundleError for a network that draws none, and ValueError for `sampling` that it cannot do.
    """
    runtime = Runtime(device=torch.device(device), dtype=dtype, compile=compile)
    return bundle.network.drawing(sampling).drawer(bundle.weights, bundle.noise, runtime, batch_size)
