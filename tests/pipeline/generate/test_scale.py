"""The driver's memory over many samples.

GENERATED_SAMPLES=10000 pytest -m slow -s tests/pipeline/generate/test_scale.py
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import ddpm_seg
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from tests.tiny_bundle import tiny_bundle

SAMPLES = int(os.environ.get("GENERATED_SAMPLES", "2000"))

JOB = """
import json, sys
from jobs.generate import main
from tests.memory import peak_memory
status = main(sys.argv[1:])
print(json.dumps({"status": status, "peak": peak_memory()}))
"""


def peak_memory(folder: Path, count: int) -> int:
    """Bytes, of the driver alone."""
    where = [f"--model={folder / 'model'}", f"--output={folder / str(count)}"]
    command = [sys.executable, "-c", JOB, *where, f"--num-samples={count}", "--steps=2"]
    job = subprocess.run(command, capture_output=True, text=True, timeout=3000)
    assert job.returncode == 0, job.stderr
    figures = json.loads(job.stdout.splitlines()[-1])
    assert figures["status"] == 0
    return figures["peak"]


@pytest.mark.slow  # minutes
@pytest.mark.timeout(3600)
def test_ten_times_the_samples_take_no_more_memory(tmp_path: Path) -> None:
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    few, many = peak_memory(tmp_path, SAMPLES // 10), peak_memory(tmp_path, SAMPLES)
    print(f"\n{SAMPLES // 10} samples: {few / 2**20:.0f} MiB; {SAMPLES}: {many / 2**20:.0f} MiB")
    assert many - few < 100 * 2**20
    numbers = ddpm_seg.read_samples(str(tmp_path / str(SAMPLES)), columns=["number"])["number"].to_pylist()
    assert numbers == list(range(SAMPLES))
