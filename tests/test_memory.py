"""Tests of what the tests of memory measure with."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from tests.memory import held_memory, peak_memory


def test_the_peak_stays_when_memory_is_given_back() -> None:
    peak = peak_memory()
    held = held_memory()
    block = np.ones(peak + 50_000_000, np.uint8)
    assert held_memory() - held > 50_000_000
    assert peak_memory() - peak > 40_000_000
    peak = peak_memory()
    del block
    assert peak_memory() > peak - 10_000_000  # the kernel's counters are not exact


def test_a_process_does_not_begin_with_what_its_parent_held() -> None:
    block = np.ones(500_000_000, np.uint8)
    code = "from tests.memory import peak_memory; print(peak_memory())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(child.stdout) < 100_000_000 < block.nbytes
