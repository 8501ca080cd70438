"""Metrics of a run for Prometheus, which Ray serves on every node, to watch a run on a dashboard."""

from __future__ import annotations

import json
from collections import Counter as Counts

from ray.util.metrics import Counter, Histogram

from ddpm_seg.pipeline.row import STAGES, Row

# In nats. An image's uncertainty is at most log(members), 2.3 for ten members; most images are far below.
UNCERTAINTY_BOUNDARIES = [0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5]


class RunMetrics:
    """Counts the images of one run as their chunks come back.

    The driver counts rather than its workers, as a chunk that is done twice comes back once. Each attempt counts from
    0. Prometheus calls the metrics ray_ddpm_seg_images_total, ray_ddpm_seg_stage_seconds_total and
    ray_ddpm_seg_uncertainty (a histogram in nats, whose sum Ray estimates from the buckets).
    """

    def __init__(self, run_id: str, config_hash: str) -> None:
        run = {"run_id": run_id, "config_hash": config_hash}
        keys = tuple(run)
        self._images = Counter("ddpm_seg_images", "Images done, by outcome: ok or an error's type", (*keys, "outcome"))
        self._seconds = Counter("ddpm_seg_stage_seconds", "Seconds at work, over all processes", (*keys, "stage"))
        self._uncertainty = Histogram(
            "ddpm_seg_uncertainty", "Uncertainty of each labelled image, in nats", UNCERTAINTY_BOUNDARIES, keys
        )
        for metric in (self._images, self._seconds, self._uncertainty):
            metric.set_default_tags(run)

    def add(self, row: Row, counts: Counts[str]) -> None:
        """Adds one chunk: its `stream.result`, and its row counts by outcome."""
        for outcome, images in counts.items():
            self._images.inc(images, {"outcome": outcome})
        for stage in STAGES:
            if row[f"{stage}_seconds"]:  # Ray's counters refuse to add 0
                self._seconds.inc(row[f"{stage}_seconds"], {"stage": stage})
        for uncertainty in json.loads(row["uncertainties"]):
            self._uncertainty.observe(uncertainty)
