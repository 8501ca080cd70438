from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_whatever_a_tar_or_table_holds_is_images_or_one_error() -> None:
    """In a process of its own, which a file may crash. For longer: `python -m tests.data.inputs.fuzz_containers`."""
    command = [sys.executable, "-m", "tests.data.inputs.fuzz_containers", "--count", "1000", "--seed", "0"]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a.tar: read" in done.stdout
