"""Where a segmentation's time goes, by operation of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

MOST, LONGEST_NAME = 20, 60


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """All calls of one operation; on a GPU, of one kernel."""

    name: str
    calls: int
    seconds: float
    """Its own time, without that of operations that it calls; on a GPU, the GPU's."""
    share: float
    """Its part of the time of all operations."""


def profiled(work: Callable[[], object], device: torch.device) -> list[Operation]:
    """The operations of one call of `work` that take most time, longest first."""
    gpu = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if gpu else ProfilerActivity.CPU]) as found:
        work()
        if gpu:
            torch.cuda.synchronize(device)
    averages = found.key_averages()
    seconds = [(one.self_device_time_total if gpu else one.self_cpu_time_total) / 1e6 for one in averages]
    total = sum(seconds) or 1.0
    operations = [
        Operation(name=one.key[:LONGEST_NAME], calls=one.count, seconds=taken, share=taken / total)
        for one, taken in zip(averages, seconds, strict=True)
    ]
    return sorted(operations, key=lambda one: -one.seconds)[:MOST]
