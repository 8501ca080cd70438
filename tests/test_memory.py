"""Tests of what the tests of memory measure with."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

USES_AND_FREES = """
import numpy as np
from tests.memory import held_memory, peak_memory
print(held_memory(), peak_memory())
block = np.ones(300_000_000, np.uint8)
print(held_memory(), peak_memory())
del block
print(held_memory(), peak_memory())
"""


def measured(code: str) -> list[int]:
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return [int(number) for number in child.stdout.split()]


def test_the_peak_stays_when_memory_is_given_back() -> None:
    held, peak, held_with, peak_with, held_after, peak_after = measured(USES_AND_FREES)
    near = 10_000_000  # the kernel's counters are not exact
    assert abs(held_with - held - 300_000_000) < near
    assert abs(held_after - held) < near
    assert abs(peak_with - max(peak, held_with)) < near
    assert peak_after > peak_with - near


def test_a_process_does_not_begin_with_what_its_parent_held() -> None:
    block = np.ones(500_000_000, np.uint8)
    (peak,) = measured("from tests.memory import peak_memory; print(peak_memory())")
    assert peak < 100_000_000 < block.nbytes
