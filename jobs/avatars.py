"""Renders Avatars-10, the demonstration task: 64 x 64 avatars beside exact masks of their ten face parts.

    python -m jobs.avatars --output avatars                              # the fixed splits, each in its folder
    python -m jobs.avatars --output avatars --splits validation test    # some of them
    python -m jobs.avatars --output mine --num-images 100 --seed 9000   # a set of your own

Writes the published layout: 00000.png beside 00000.npy (uint8 class ids). The same seed gives the same bytes. Needs
`pip install 'ddpm_seg[avatars]'`. Art: Avataaars by Pablo Stanley (free for personal and commercial use), drawn by
python-avatars (MIT, by Ibon).
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from threading import Thread

import numpy as np
from tqdm import tqdm

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.data.avatar_splits import AVATAR_SPLITS
from ddpm_seg.data.avatars import check_installed, render
from ddpm_seg.data.images import encode_png
from ddpm_seg.interruption import STOP_SIGNALS
from jobs.command import run


@dataclass(frozen=True, kw_only=True, slots=True)
class AvatarsConfig:
    """Settings of `jobs.avatars`."""

    output: str
    """Folder or URI prefix to write to."""
    splits: tuple[str, ...] = tuple(AVATAR_SPLITS)
    """Fixed splits to render, each in a folder of its name under --output."""
    num_images: int | None = None
    """A set of your own instead, of so many pairs of picture and mask, straight in --output."""
    seed: int = 0
    """Of a set of your own. Picture i depends on (seed, i) alone: a larger set begins with the same pictures."""

    def pairs(self) -> list[tuple[int, int, str]]:
        """(seed, index, folder) of every pair to render. Raises ValueError for a wrong number or an unknown split."""
        folder = storage.normalize(self.output)
        if self.num_images is not None:
            check_least(self, num_images=1, seed=0)
            return [(self.seed, index, folder) for index in range(self.num_images)]
        if unknown := [name for name in self.splits if name not in AVATAR_SPLITS]:
            raise ValueError(f"--splits {unknown[0]}: no such split; expected some of {', '.join(AVATAR_SPLITS)}")
        return [
            (AVATAR_SPLITS[name].seed, index, storage.join(folder, name))
            for name in self.splits
            for index in range(AVATAR_SPLITS[name].num_images)
        ]


def write_pair(pair: tuple[int, int, str]) -> None:
    """Renders one picture and writes it with its mask."""
    seed, index, folder = pair
    image, mask = render(seed, index)
    buffer = io.BytesIO()
    np.save(buffer, mask)
    storage.write_bytes(storage.join(folder, f"{index:05d}.npy"), buffer.getvalue())
    storage.write_bytes(storage.join(folder, f"{index:05d}.png"), encode_png(image))


def main(argv: list[str] | None = None) -> int:
    return run(AvatarsConfig, _render, __doc__, argv)


def _render(config: AvatarsConfig) -> str:
    pairs = config.pairs()
    check_installed()
    storage.check_writable(config.output)
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        written = _submit(pool, pairs)
        for _ in tqdm(written, total=len(pairs), desc="avatars", disable=None):
            pass
    return f"{len(pairs)} pairs of X.png and X.npy in {storage.redact(config.output)}"


def _end_with_parent() -> None:
    """Lets a rendering process end with the job, however that ends."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


def _submit(pool: ProcessPoolExecutor, pairs: list[tuple[int, int, str]]) -> Iterator[None]:
    """Starts the pool's processes deaf to what stops this one, which then finishes the pictures they are at.

    A terminal, and `timeout`, signal every process of the job.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        return pool.map(write_pair, pairs, chunksize=16)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


if __name__ == "__main__":
    sys.exit(main())
