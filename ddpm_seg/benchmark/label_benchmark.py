"""Measures `jobs.label` from image files to tables, and how busy its actors are."""

# Shapes: N images of S x S pixels.

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_seg.model.bundle.ensemble_bundle import Bundle, save_bundle
from ddpm_seg.model.device.dtypes import DType
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.job import run_label


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelBenchmark:
    """The result of one `jobs.label` run on the cluster that Ray finds."""

    images: int
    images_per_hour: float
    """Measured from the start of the first chunk to the last commit, without Ray's own start."""
    computing: float
    """Share of that time that actors spend in the model, summed over actors: two busy actors give 2."""


def benchmark_labelling(bundle: Bundle, images: NDArray[np.uint8], count: int, dtype: DType) -> LabelBenchmark:
    """Labels `count` files made from `images` (N, S, S, 3) uint8, in a temporary folder on this machine.

    Raises ValueError for a cluster of several nodes, as the others cannot read that folder.
    """
    with tempfile.TemporaryDirectory() as folder:
        photos, model = Path(folder, "photos"), str(Path(folder, "model"))
        photos.mkdir()
        save_bundle(bundle, model)
        for number in range(count):
            Image.fromarray(images[number % len(images)]).save(photos / f"{number:06}.png")
        config = LabelConfig(input=str(photos), output=str(Path(folder, "labels")), model=model, dtype=dtype)
        (run,) = run_label(config).runs
    rate = run.images_per_hour or 0.0
    return LabelBenchmark(
        images=count,
        images_per_hour=rate,
        computing=run.seconds["segment"] / run.timed_images * rate / 3600,
    )
