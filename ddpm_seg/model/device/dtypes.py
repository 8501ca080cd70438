"""Number formats that networks run in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

DType = Literal["float32", "bfloat16", "float16"]
SegmentDType = Literal["float32", "bfloat16", "float16", "int8"]
"""int8: the convolutions of a DDPM's UNet in 8-bit integers, on CPUs alone."""


def activations(dtype: SegmentDType) -> torch.dtype:
    """The type of what is between the convolutions."""
    import torch  # seconds, which a command that only names its formats need not spend

    return torch.bfloat16 if dtype == "int8" else getattr(torch, dtype)


def without_int8(dtype: SegmentDType, title: str) -> DType:
    """`dtype`, of those that a network which is no DDPM, a `title`, takes. Raises ValueError."""
    if dtype == "int8":
        raise ValueError(f"int8 is for the network of a DDPM; a {title} takes float32, bfloat16 or float16")
    return dtype
