"""Copies to and from a GPU that the CPU does not wait for, so that the GPU always has work queued."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def to_device(x: Tensor, device: torch.device | str) -> Tensor:
    """`x`, in the CPU's memory, on `device`; `x` itself if that is the CPU.

    A GPU can only read pinned memory by itself; torch keeps the pinned copy until the GPU has read it.
    """
    pinned = x.pin_memory() if torch.device(device).type == "cuda" else x
    return pinned.to(device, non_blocking=True)


def to_host(rows: Iterable[Mapping[str, Tensor]], device: torch.device) -> list[dict[str, NDArray[Any]]]:
    """All tensors of `rows`, from `device`, in the CPU's memory. Waits for a GPU only once, after the last row."""
    copies = [{name: x.to("cpu", non_blocking=True) for name, x in row.items()} for row in rows]
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return [{name: x.numpy() for name, x in row.items()} for row in copies]
