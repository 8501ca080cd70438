"""Measures time and memory of training ten members at the published size, from random weights.

    python -m tests.measurements.published_size_training FOLDER [--images 50] [--iterations 1000]

The published LSUN network (552.8 M parameters, 256 x 256, 8448 features of 15 maps, 34 classes). Begun again in the
same folder after an interruption, it goes on as `jobs.train` does. Prints the log of `jobs.train`, which says how long
an image's features and a batch took, and the peak of its resident memory, memory-mapped files included.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from jobs import train
from tests.memory import peak_memory

SIZE, CLASSES = 256, 34


def annotate(folder: Path, count: int) -> None:
    """Noise in stripes of classes: what is learnt does not matter, how much of it there is does."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        mask = ((np.arange(SIZE)[:, None] + np.arange(SIZE)) // 8 + number) % CLASSES
        image = rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(image).save(folder / f"{number:03}.png")
        np.save(folder / f"{number:03}.npy", mask.astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=50)
    parser.add_argument("--iterations", type=int, default=1000)
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "network" / "bundle.json").exists():
        # In a process of its own, whose memory is not counted.
        save = [sys.executable, "-m", "tests.measurements.published_size", "save", str(folder / "network"), "float16"]
        subprocess.run(save, check=True)
    annotate(folder / "images", options.images)
    named = ["--model", str(folder / "network"), "--images", str(folder / "images"), "--task", "ffhq_34"]
    how = ["--iterations", str(options.iterations), "--limit", str(options.images), "--device", "cpu"]
    status = train.main([*named, *how, "--output", str(folder / "trained")])
    print(f"peak resident memory {peak_memory() / 1e9:.2f} GB")
    sys.exit(status)


if __name__ == "__main__":
    main()
