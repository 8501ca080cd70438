"""Measures time, memory, and the machine's limit: the speed of its fastest large product or convolution."""

from __future__ import annotations

import ctypes
import mmap
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any

import torch
import torch.nn.functional as F

MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}
MAP_SIDE, CONVOLUTION_IMAGES, CHANNELS = 64, {"cpu": 1, "cuda": 64}, 256
REPEATS, FIRST_SIDE, LONG_PRODUCT = 5, 256, 0.1  # LONG_PRODUCT is in seconds
POLL_SECONDS = 0.005


def in_turn(
    works: Mapping[str, Callable[[], Any]], rounds: int, device: torch.device
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Runs `works` in turn (A B C A B C …), so that other load on the machine affects all of them alike.

    Returns the seconds that each took in each round, and what each returned last.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    results = {}
    for _ in range(rounds):
        for name, work in works.items():
            _synchronize(device)
            started = time.perf_counter()
            results[name] = work()
            _synchronize(device)
            seconds[name].append(time.perf_counter() - started)
    return seconds, results


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Operations per second of the faster of a large matrix product and a 3 x 3 convolution, each the best of a few.

    Networks are compared with it. Libraries differ: on AMD processors MKL's products are slower than oneDNN's
    convolutions, and on GPUs PyTorch allows TF32 in convolutions only. A multiplication and an addition are two
    operations. For a type that the processor has no instructions for, the operands are smaller: with AVX2 only,
    bfloat16 takes a hundred times as long as float32.
    """
    side = FIRST_SIDE
    while (seconds := _product_seconds(side, device, dtype)) < LONG_PRODUCT and side < MATRIX_SIDE[device.type]:
        side *= 2
    product = 2 * side**3 / seconds
    if side < MATRIX_SIDE[device.type] or dtype == torch.int8:
        return product  # the type is slow here; and int8's convolutions are oneDNN's own, see unet_int8
    images = CONVOLUTION_IMAGES[device.type]
    convolution = 2 * images * MAP_SIDE**2 * 9 * CHANNELS**2 / _convolution_seconds(images, device, dtype)
    return max(product, convolution)


def _product_seconds(side: int, device: torch.device, dtype: torch.dtype) -> float:
    a = torch.randn(side, side, device=device).to(dtype)
    product = torch._int_mm if dtype == torch.int8 else torch.mm
    return _best(lambda: product(a, a), device)


def _convolution_seconds(images: int, device: torch.device, dtype: torch.dtype) -> float:
    x = torch.randn(images, CHANNELS, MAP_SIDE, MAP_SIDE, device=device).to(dtype, memory_format=torch.channels_last)
    weight = torch.randn(CHANNELS, CHANNELS, 3, 3, device=device).to(dtype, memory_format=torch.channels_last)
    return _best(lambda: F.conv2d(x, weight, padding=1), device)


def _best(work: Callable[[], object], device: torch.device) -> float:
    seconds, _ = in_turn({"work": work}, REPEATS, device)
    return min(seconds["work"])


class PeakMemory:
    """A context manager that measures how far memory rises within the block, in bytes.

    On a GPU it measures allocations; on the CPU the resident memory of this process, read every few milliseconds.
    """

    def __init__(self, device: torch.device) -> None:
        self.device, self.bytes = device, 0

    def __enter__(self) -> PeakMemory:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
            return self
        # Return freed memory to the system first: reusing it would hide new allocations.
        ctypes.CDLL(None).malloc_trim(0)
        self._before, self._done = _resident_bytes(), threading.Event()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self._before
            return
        self._done.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            self.bytes = max(self.bytes, _resident_bytes() - self._before)


def ratio(slower: list[float], faster: list[float]) -> float:
    """How many times longer `slower` took than `faster`: the median over the rounds."""
    return median(a / b for a, b in zip(slower, faster, strict=True))


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * mmap.PAGESIZE


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
