"""Renders Avatars-10, the demonstration task: 64 x 64 avatars beside exact masks of their ten face parts.

    python -m jobs.avatars --output avatars/train --num-images 10000 --seed 0

Writes the published layout: 00000.png beside 00000.npy (uint8 class ids). The same seed gives the same bytes. Needs
`pip install 'ddpm_seg[avatars]'`. Art: Avataaars by Pablo Stanley (free for personal and commercial use), drawn by
python-avatars (MIT, by Ibon).
"""

from __future__ import annotations

import io
import os
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context

import numpy as np
from tqdm import tqdm

from ddpm_seg import storage
from ddpm_seg.data.avatars import check_installed, render
from ddpm_seg.data.images import encode_png
from jobs.arguments import parse, stop


@dataclass(frozen=True, kw_only=True, slots=True)
class AvatarsConfig:
    """Settings of `jobs.avatars`."""

    output: str
    """Folder or URI prefix to write to."""
    num_images: int
    """How many pairs of picture and mask."""
    seed: int = 0
    """Picture i depends on (seed, i) alone: a larger number of images begins with the same ones."""


def write_pair(index: int, *, seed: int, output: str) -> None:
    """Renders picture `index` and writes it with its mask."""
    image, mask = render(seed, index)
    buffer = io.BytesIO()
    np.save(buffer, mask)
    storage.write_bytes(storage.join(output, f"{index:05d}.npy"), buffer.getvalue())
    storage.write_bytes(storage.join(output, f"{index:05d}.png"), encode_png(image))


def main(argv: list[str] | None = None) -> int:
    config = parse(AvatarsConfig, argv, description="Render avatars and masks of their face parts.")
    output = storage.normalize(config.output)
    try:
        if config.num_images < 1:
            raise ValueError(f"--num-images must be at least 1, got {config.num_images}")
        if config.seed < 0:
            raise ValueError(f"--seed must not be negative, got {config.seed}")
        check_installed()
        storage.check_writable(output)
        with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
            work = pool.map(
                partial(write_pair, seed=config.seed, output=output), range(config.num_images), chunksize=16
            )
            for _ in tqdm(work, total=config.num_images, desc="avatars", unit="image", disable=None):
                pass
    except (ValueError, OSError, ImportError) as error:
        stop(str(error))
    print(f"{config.num_images} pairs of X.png and X.npy in {storage.redact(output)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
