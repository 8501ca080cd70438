"""The kernels that work on this machine: each is compared with PyTorch's own operations before its first use."""

# Shapes: N images of H x W pixels, C channels, M members, K classes.

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

T = TypeVar("T")

logger = logging.getLogger(__name__)

_passed: set[str] = set()


class UNetKernels(NamedTuple):
    """See `kernels.group_norm` and `kernels.passes`."""

    group_norm: Callable[..., Tensor]
    add: Callable[..., Tensor]
    resample: Callable[..., Tensor]


def usable(what: str, load: Callable[[], T], agrees: Callable[[T], bool]) -> T | None:
    """What `load` returns, if `agrees` confirms it; otherwise None, and a warning that names the reason."""
    try:
        kernel = load()
        if agrees(kernel):
            _passed.add(what)
            return kernel
        reason = "its results differ from PyTorch's own on this machine"
    except torch.OutOfMemoryError:
        raise
    # Triton missing, no compiler, a GPU that it does not know: each raises its own exception.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    logger.warning("the fast %s is not used, which makes this machine slower: %s", what, reason)
    return None


def computed_by(device: torch.device | str) -> str:
    """What computes on `device` in this process: "AVX2, Winograd convolution" or "NVIDIA H100, UNet, ensemble".

    The GPU's name or the CPU's instructions, then the fast kernels that have passed their check. Where it differs,
    results may differ by rounding.
    """
    is_gpu = torch.device(device).type == "cuda"
    name = torch.cuda.get_device_name(device) if is_gpu else torch.backends.cpu.get_cpu_capability()
    return ", ".join([name, *sorted(_passed)])


def unet_kernels(x: Tensor) -> UNetKernels | None:
    """The kernels for activations `x`.

    None on a CPU, in training (which needs gradients), within torch.compile (which fuses by itself), and on a GPU where
    they do not work.
    """
    if not x.is_cuda or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    return _unet_kernels(x.device)


@cache
def _unet_kernels(device: torch.device) -> UNetKernels | None:
    def load() -> UNetKernels:
        from ddpm_seg.model.kernels.group_norm import group_norm
        from ddpm_seg.model.kernels.passes import add, resample

        return UNetKernels(group_norm, add, resample)

    return usable("UNet", load, lambda kernels: unet_kernels_agree(kernels, device))


def unet_kernels_agree(kernels: UNetKernels, device: torch.device) -> bool:
    """Whether each gives what PyTorch's operations give, on noise."""
    generator = torch.Generator().manual_seed(0)

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    channels = 96
    x, y = noise(2, channels, 34, 42) + 1, noise(2, channels, 34, 42)
    weight, bias, before, emb = noise(channels), noise(channels), noise(channels), noise(2, 2 * channels)
    scale, shift = emb[:, :, None, None].chunk(2, dim=1)
    norm = F.group_norm(x + before[:, None, None], 32, weight, bias, 1e-5)
    found = kernels.group_norm(x, weight, bias, 32, 1e-5, emb, silu=True, before_NC=before.expand(2, channels))
    pairs = [
        (found, F.silu(norm * (1 + scale) + shift)),
        (kernels.add(x, y, bias), x + y + bias[:, None, None]),
        (kernels.resample(x, "up"), F.interpolate(x, scale_factor=2, mode="nearest")),
        (kernels.resample(x, "down"), F.avg_pool2d(x, 2)),
    ]
    return all(torch.allclose(found, expected, atol=1e-3, rtol=1e-3) for found, expected in pairs)
