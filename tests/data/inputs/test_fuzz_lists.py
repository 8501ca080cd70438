from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_whatever_a_list_says_is_a_file_or_a_row() -> None:
    """In a process of its own, whose memory is what the lists took.

    For longer: `python -m tests.data.inputs.fuzz_lists`.
    """
    command = [sys.executable, "-m", "tests.data.inputs.fuzz_lists", "--count", "500", "--seed", "0"]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) >= 500
