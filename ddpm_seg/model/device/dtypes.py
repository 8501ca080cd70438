"""Number formats for networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

FloatDType = Literal["float32", "bfloat16", "float16"]
DType = Literal["float32", "bfloat16", "float16", "int8"]
"""int8: the convolutions of a DDPM's UNet run in 8-bit integers, on CPUs only."""


def activations(dtype: DType) -> torch.dtype:
    """The type of the values between the convolutions."""
    import torch  # takes seconds to import, and commands that only name formats do not need it

    return torch.bfloat16 if dtype == "int8" else getattr(torch, dtype)


def without_int8(dtype: DType, title: str) -> FloatDType:
    """`dtype`, for a network that is not a DDPM, named `title` in the message. Raises ValueError for int8."""
    if dtype == "int8":
        raise ValueError(f"int8 works only for a DDPM's network; use float32, bfloat16 or float16 for a {title}")
    return dtype
