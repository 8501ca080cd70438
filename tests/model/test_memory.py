"""The published network (552.8 M parameters, ten members) fits the machine that the README promises: 6 GB."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_one_image_through_the_published_network_takes_less_than_6_gb(tmp_path: Path) -> None:
    _run("save", str(tmp_path / "model"), "float16")
    assert _run("segment", str(tmp_path / "model")) < 6e9


def _run(*arguments: str) -> int:
    """Peak resident bytes of `tests.measurements.published_size` with these arguments."""
    command = [sys.executable, "-m", "tests.measurements.published_size", *arguments]
    output = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True).stdout
    return int(output.split()[0])
