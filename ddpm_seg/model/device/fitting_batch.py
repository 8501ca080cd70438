"""Chooses how many items go through a network at once, and halves the number whenever a GPU runs out of memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

CPU_ACTIVATION_BYTES = 2**29  # one image and step of the published size in float32: two at once were no faster
MAX_PAIRS = {"cpu": 32, "cuda": 256}

T = TypeVar("T")

logger = logging.getLogger(__name__)


def fitting_pairs(peak_values: int, itemsize: int, device: torch.device) -> int:
    """The number of (image, step) pairs that fit into memory, if each needs `peak_values` of `itemsize` bytes."""
    bytes_per_pair = peak_values * itemsize
    budget = CPU_ACTIVATION_BYTES if device.type == "cpu" else torch.cuda.mem_get_info(device)[0] // 2
    return int(max(1, min(budget // bytes_per_pair, MAX_PAIRS.get(device.type, 1))))


class FittingBatch:
    """A batch size that shrinks until it fits, and stays so. `what` names one item in messages: "64 x 64 image"."""

    def __init__(self, size: int, device: torch.device, *, what: str) -> None:
        """Raises ValueError for a size below 1."""
        if size < 1:
            raise ValueError(f"batch_size must be at least 1, got {size}")
        self.size, self._device, self._what = size, device, what

    def run(self, total: int, work: Callable[[int, int], Iterable[T]]) -> Iterator[T]:
        """Yields the results 0 to `total` - 1, in order. `work(first, size)` yields about `size` of them, from `first`
        on.

        If memory runs out, `work` is called again with half the size, from the first missing result on. Raises
        torch.OutOfMemoryError if memory runs out even at size 1.
        """
        done = 0
        while done < total:
            try:
                for result in work(done, self.size):
                    yield result
                    done += 1
                continue
            except torch.OutOfMemoryError as error:
                message = str(error)
            # Halve only after leaving `except`: its traceback keeps the failed batch's tensors alive.
            self._halve(message)

    def _halve(self, message: str) -> None:
        name = torch.cuda.get_device_name(self._device) if self._device.type == "cuda" else self._device.type.upper()
        if self.size == 1:
            raise torch.OutOfMemoryError(f"{name} has too little memory even for one {self._what}: {message}")
        self.size //= 2
        torch.cuda.empty_cache()
        logger.warning("out of memory on %s: from now on the batch size is %d", name, self.size)
