"""The picture of `sampler_study`'s results; needs `pip install matplotlib`.

python -m tests.measurements.sampler_plot FOLDER PICTURE.png
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from tests.measurements.sampler_study import results

MARKERS = {"ddim": "o", "dpm-solver++": "s", "ddpm": "^"}


def draw(rows: list[dict[str, Any]], picture: Path) -> None:
    """Two panels over the evaluations a sample: kernel distance, and the student's mIoU; bars are seeds' deviations."""
    figure, (distance, miou) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    panel(distance, rows, "kernel_distance", "kernel distance to real images × 1000", 1000)
    panel(miou, rows, "miou", "student's mean IoU", 1)
    distance.set_yscale("log")
    distance.set_yticks([50, 100, 200, 500], ["50", "100", "200", "500"])
    miou.legend(title="--sampler", loc="lower right")
    for axes in (distance, miou):
        axes.minorticks_off()
    figure.savefig(picture, dpi=110)


def panel(axes: Axes, rows: list[dict[str, Any]], key: str, label: str, factor: float) -> None:
    """A line through each sampler's means."""
    for sampler, marker in MARKERS.items():
        points: dict[int, list[float]] = {}
        for row in rows:
            name, _, steps = row["cell"].rpartition("-")
            if name == sampler and key in row:
                points.setdefault(int(steps), []).append(factor * row[key])
        steps = sorted(points)
        means = [fmean(points[step]) for step in steps]
        deviations = [stdev(points[step]) if len(points[step]) > 1 else 0.0 for step in steps]
        axes.errorbar(steps, means, deviations, marker=marker, capsize=3, label=sampler)
    axes.set_xscale("log")
    ticks = sorted({int(row["cell"].rpartition("-")[2]) for row in rows})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xlabel("UNet evaluations a sample (--steps)")
    axes.set_ylabel(label)
    axes.grid(alpha=0.3)


if __name__ == "__main__":
    draw(results(Path(sys.argv[1])), Path(sys.argv[2]))
