"""Memory that a process shares with the child that decodes for it: a pipe would cost more than decoding a small image.

The child may write anything into it at any time, so the parent copies pixels before it uses them.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import resource
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

SIZE = 16 << 20
"""In bytes: 85 canvases of 256 x 256. Only what is used takes memory."""


class Window:
    """Shared memory: `SIZE` new bytes, or those behind a descriptor that the parent passed on.

    Fewer bytes where the user's limit on the size of files, which counts here too, allows no more.
    """

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = _new() if descriptor is None else descriptor
        # The mapping of the child keeps a descriptor, but a sealed file neither grows nor shrinks.
        self._memory = np.frombuffer(mmap.mmap(self._descriptor, 0), np.uint8)
        if descriptor is not None:
            os.close(descriptor)

    @contextmanager
    def shared(self) -> Iterator[int]:
        """The descriptor to pass on, which is closed afterwards."""
        try:
            yield self._descriptor
        finally:
            os.close(self._descriptor)

    def put(self, start: int, pixels: NDArray[np.uint8]) -> bool:
        """Puts flat pixels at `start`. Returns False if they do not fit."""
        end = start + pixels.size
        if end > self._memory.size:
            return False
        self._memory[start:end] = pixels
        return True

    def copy(self, end: int) -> NDArray[np.uint8]:
        """A read-only copy of the first `end` bytes."""
        found = self._memory[:end].copy()
        found.flags.writeable = False
        return found


def _new() -> int:
    most, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = SIZE if most == resource.RLIM_INFINITY else min(SIZE, most)
    if sys.platform != "linux":
        with tempfile.TemporaryFile() as file:
            file.truncate(size)
            return os.dup(file.fileno())
    descriptor = os.memfd_create("pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor
