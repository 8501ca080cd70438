"""Renders avatars and their masks to files, on all cores."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from threading import Thread

import numpy as np

from ddpm_seg import storage
from ddpm_seg.data.avatars.render import render
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.interruption import STOP_SIGNALS
from ddpm_seg.progress import track


def write_pairs(pairs: list[tuple[int, int, str]]) -> None:
    """Renders and writes the picture and mask for each (seed, index, folder)."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        written = _submit(pool, pairs)
        for _ in track(written, "avatars", unit="images", total=len(pairs)):
            pass


def _write_pair(pair: tuple[int, int, str]) -> None:
    """Renders one picture and writes it with its mask."""
    seed, index, folder = pair
    image, mask = render(seed, index)
    buffer = io.BytesIO()
    np.save(buffer, mask)
    storage.write_bytes(storage.join(folder, f"{index:05d}.npy"), buffer.getvalue())
    storage.write_bytes(storage.join(folder, f"{index:05d}.png"), encode_png(image))


def _end_with_parent() -> None:
    """Makes a rendering process end when the job does, however that ends."""
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    Thread(target=wait, daemon=True).start()


def _submit(pool: ProcessPoolExecutor, pairs: list[tuple[int, int, str]]) -> Iterator[None]:
    """Starts the pool's processes with stop signals blocked, so that they finish their pictures when the job is
    stopped.

    A terminal, and `timeout`, signal every process of the job.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        return pool.map(_write_pair, pairs, chunksize=16)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
