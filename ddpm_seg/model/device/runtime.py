"""How a resident network runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ddpm_seg.model.device.dtypes import DType


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """Choices of the caller that loads a network."""

    device: torch.device
    dtype: DType = "float32"
    """Type of the network's convolutions."""
    compile: bool = False
    """Whether the network goes through torch.compile; see `compiled`."""
