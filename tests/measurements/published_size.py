"""Measures the memory of the published LSUN network with ten members, in a separate process.

    python -m tests.measurements.published_size save FOLDER float16
    python -m tests.measurements.published_size segment FOLDER

Both print their peak resident memory in bytes and the seconds they took.
"""

from __future__ import annotations

import sys
import time

from tests.memory import peak_memory

UNET_PARAMETERS = 552.8e6


def save(folder: str, dtype_name: str) -> None:
    """Writes a bundle of random weights, the network's stored in that type."""
    import torch

    from ddpm_seg.benchmark.published_size import published_size_bundle
    from ddpm_seg.model.bundle.ensemble_bundle import save_bundle

    bundle = published_size_bundle(getattr(torch, dtype_name))
    assert abs(sum(value.numel() for value in bundle.weights.values()) - UNET_PARAMETERS) < 1e5
    save_bundle(bundle, folder)


def segment(folder: str) -> None:
    """Labels one image, as a notebook would."""
    import numpy as np

    from ddpm_seg.notebook import load

    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    result = load(folder, device="cpu")(image)
    assert result.mask.shape == (256, 256)
    assert np.isfinite(result.uncertainty)


if __name__ == "__main__":
    started = time.perf_counter()
    if sys.argv[1] == "save":
        save(*sys.argv[2:])
    else:
        segment(*sys.argv[2:])
    print(peak_memory(), round(time.perf_counter() - started))
