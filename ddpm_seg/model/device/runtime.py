"""How a resident network runs."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ddpm_seg.model.device.dtypes import SegmentDType
from ddpm_seg.model.device.instructions import warn_if_slow


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """Choices of the caller that loads a network."""

    device: torch.device
    dtype: SegmentDType = "float32"
    """Type of the network's convolutions."""
    compile: bool = False
    """Whether the network goes through torch.compile; see `compiled`."""

    def __post_init__(self) -> None:
        warn_if_slow(self.dtype, self.device)
