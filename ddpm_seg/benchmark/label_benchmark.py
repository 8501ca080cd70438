"""Labelling from files to tables, and what share of it the actors compute."""

# Shapes: N images of S x S pixels.

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm_seg.model.bundle.ensemble_bundle import Bundle, save_bundle
from ddpm_seg.model.device.dtypes import SegmentDType
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.job import run_label


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelBenchmark:
    """A `jobs.label` of its own, on the cluster that Ray finds."""

    images: int
    images_per_hour: float
    """From the first chunk's start to the last commit; Ray's own start is left out."""
    computing: float
    """Share of that time which an actor spends in the model; all actors' together, so two busy ones are 2."""


def benchmark_labelling(bundle: Bundle, images: np.ndarray, count: int, dtype: SegmentDType) -> LabelBenchmark:
    """Labels `count` files made of `images` (N, S, S, 3) uint8, in a temporary folder of this machine.

    Raises ValueError for a cluster of several nodes, which do not all see it.
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
