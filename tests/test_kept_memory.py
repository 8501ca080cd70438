from __future__ import annotations

import subprocess
import sys

import pytest

from ddpm_seg.kept_memory import MOST_KEPT

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc")

# Prints the page faults of ten arrays of 80 MB, one after another, and what the process holds after 1.6 GB.
PROGRAM = """
import ctypes, resource, sys
from pathlib import Path
import numpy as np
from ddpm_seg.kept_memory import keep_freed_memory

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

PR_SET_THP_DISABLE = 41  # large pages, which some machines give to all, would be few faults
ctypes.CDLL(None).prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)
if sys.argv[1] == "keep":
    keep_freed_memory()
np.ones(80_000_000, np.uint8)
before = faults()
for _ in range(10):
    np.ones(80_000_000, np.uint8)
print(faults() - before)
before = held()
several = [np.ones(80_000_000, np.uint8) for _ in range(20)]
most = held()
del several
print(most - before, held() - before)
"""


def measured(how: str) -> tuple[int, int, int]:
    environment = {"PYTHONPATH": ":".join(sys.path)}
    found = subprocess.run([sys.executable, "-c", PROGRAM, how], env=environment, capture_output=True, check=True)
    faults, most, left = map(int, found.stdout.split())
    return faults, most, left


def test_the_next_array_gets_the_pages_of_the_last() -> None:
    assert measured("default")[0] > 100_000  # of 4 kB each
    assert measured("keep")[0] < 1000


def test_no_more_is_kept_than_the_limit() -> None:
    _, most, left = measured("keep")
    assert most > 1_500_000_000
    assert left < MOST_KEPT + 200_000_000
