"""The most memory that jobs.pretrain needs for many images, and the processor time that reading them takes.

    python -m tests.measurements.pretrain_memory 1000 10000 100000

Each number of images (64 x 64 PNGs, many of them links to the same) is trained on for 20 batches, by the job itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

LINKS = 10_000
"""Links to one file; file systems allow some 65,000."""
NETWORK = ["--iterations", "20", "--batch-size", "8"]


def write_images(folder: Path, number: int) -> None:
    rng = np.random.default_rng(0)
    for index in range(number):
        path = folder / f"{index:07}.png"
        if index % LINKS == 0:
            first = path
            Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(first)
        else:
            os.link(first, path)


def measure(number: int, *more: str) -> str:
    with tempfile.TemporaryDirectory() as name:
        images, output = Path(name, "images"), Path(name, "bundle")
        images.mkdir()
        write_images(images, number)
        command = [sys.executable, "-m", "jobs.pretrain", "--images", str(images), "--output", str(output)]
        process = subprocess.Popen([*command, *NETWORK, *more], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(f"{' '.join(command)} ended with {status}")
    seconds = used.ru_utime + used.ru_stime
    return f"{number:>9,} images: {used.ru_maxrss / 1024:.0f} MiB at most, {seconds:.0f} s of processor time"


if __name__ == "__main__":
    for count in map(int, sys.argv[1:]):
        print(measure(count), flush=True)
