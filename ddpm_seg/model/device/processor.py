"""What a CPU can and cannot do for a network."""

from __future__ import annotations

import logging

import torch

from ddpm_seg.kept_memory import keep_freed_memory
from ddpm_seg.model.device.dtypes import DType

SLOW = "computing in it takes several times as long as in float32"

logger = logging.getLogger(__name__)


def prepare(device: torch.device | str, dtype: DType = "float32") -> None:
    """Call this before a network computes in `dtype` on `device`; does nothing for GPUs.

    Freed memory is kept for the next activations, and `warn_if_slow` looks at `dtype`.
    """
    if torch.device(device).type == "cpu":
        keep_freed_memory()
        warn_if_slow(dtype)


def warn_if_slow(dtype: DType) -> None:
    """Logs a warning if this machine's CPU is slower in `dtype` than in float32."""
    if (dtype == "bfloat16" and not _cpu_has_bfloat16()) or (dtype == "float16" and not _cpu_has_float16()):
        logger.warning("this CPU has no instructions for %s: %s", dtype, SLOW)


def refuse_without_vnni() -> None:
    """Raises ValueError if this machine's CPU cannot compute in int8: without VNNI, sums of products may overflow."""
    if not torch.cpu._is_vnni_supported():
        raise ValueError("int8 needs a CPU with VNNI instructions, which this one lacks; use float32 or bfloat16")


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 can be faster than float32: on GPUs, and on CPUs where oneDNN supports it.

    Without instructions for it, PyTorch converts every value on its way: on a CPU with AVX2 alone, training in bfloat16
    takes 12 times as long as in float32, labelling 3 times.
    """
    return device.type != "cpu" or _cpu_has_bfloat16()


def _cpu_has_bfloat16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _cpu_has_float16() -> bool:
    return bool(torch.ops.mkldnn._is_mkldnn_fp16_supported())
