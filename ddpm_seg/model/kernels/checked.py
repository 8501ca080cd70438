"""The kernels that work on a GPU: each is compared with PyTorch's own operations there before its first use."""

# Shapes: N images of H x W pixels, C channels, M members, K classes.

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

T = TypeVar("T")

logger = logging.getLogger(__name__)

FusedNorm = Callable[..., Tensor]


def usable(what: str, load: Callable[[], T], agrees: Callable[[T], bool]) -> T | None:
    """What `load` returns, if `agrees` confirms it; otherwise None, and a warning that names the reason."""
    try:
        kernel = load()
        if agrees(kernel):
            return kernel
        reason = "its results differ from PyTorch's on this GPU"
    except torch.OutOfMemoryError:
        raise
    # Triton missing, no compiler, a GPU that it does not know: each raises its own exception.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    logger.warning("the fused %s is not used, which makes this GPU slower: %s", what, reason)
    return None


@cache
def fused_norm(device: torch.device) -> FusedNorm | None:
    """`kernels.group_norm.group_norm`, or None if it does not work on `device`."""

    def load() -> FusedNorm:
        from ddpm_seg.model.kernels.group_norm import group_norm

        return group_norm

    return usable("group norm", load, lambda kernel: _norm_agrees(kernel, device))


def _norm_agrees(kernel: FusedNorm, device: torch.device) -> bool:
    generator = torch.Generator().manual_seed(0)
    channels = 96
    x = (torch.randn(2, channels, 33, 41, generator=generator) + 1).to(device, memory_format=torch.channels_last)
    weight, bias = torch.randn(2, channels, generator=generator).to(device)
    emb = torch.randn(2, 2 * channels, generator=generator).to(device)
    scale, shift = emb[:, :, None, None].chunk(2, dim=1)
    expected = F.silu(F.group_norm(x, 32, weight, bias, 1e-5) * (1 + scale) + shift)
    found = kernel(x, weight, bias, 32, 1e-5, emb, silu=True)
    return torch.allclose(found, expected, atol=1e-3, rtol=1e-3)
