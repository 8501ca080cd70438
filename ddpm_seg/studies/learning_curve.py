"""A learning curve: the scores of ensembles trained on ever more of the annotated images."""

from __future__ import annotations

import csv
import io
import logging
from dataclasses import replace
from typing import Any

from ddpm_seg import storage
from ddpm_seg.json_text import json_file
from ddpm_seg.studies.evaluate_config import METRICS, EvaluateConfig
from ddpm_seg.studies.few_shot_splits import load_pool, score_splits
from ddpm_seg.studies.figures import drawn, saved

logger = logging.getLogger(__name__)

CURVE = "curve"


def run_curve(config: EvaluateConfig) -> dict[str, Any]:
    """Writes metrics.json with the mean and deviation for each of `config.shots`, and curve.csv, curve.png and
    curve.svg.

    All are scored on the same images of each split. What is there from an interrupted evaluation is reused. Raises what
    `run_splits` raises.
    """
    shots, pool, points = sorted(config.shots), load_pool(config), []
    # The largest first: if there are too few images for it, nothing has been trained yet.
    for number in reversed(shots):
        own = replace(config, shots=(number,), output=storage.join(config.output, f"shots-{number}"))
        points.append(score_splits(own, pool, kept_back=shots[-1]))
        logger.info("%d images: mean IoU %.4f", number, points[-1]["miou"])
    points.reverse()
    result = {
        "curve": [{name: point[name] for name in ("shots", "miou", "deviation", "means")} for point in points],
        "splits": config.splits,
    }
    storage.write_bytes(storage.join(config.output, METRICS), json_file(result))
    for suffix, content in {"csv": _csv(points), **drawn(lambda: _figure(points))}.items():
        storage.write_bytes(storage.join(config.output, f"{CURVE}.{suffix}"), content)
    return result


def _csv(points: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["shots", "miou", "deviation"])
    writer.writerows([point["shots"], point["miou"], point["deviation"]] for point in points)
    return text.getvalue().encode()


def _figure(points: list[dict[str, Any]]) -> dict[str, bytes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 3), layout="constrained", dpi=150)
    axes = figure.subplots()
    shots, scores = [point["shots"] for point in points], [point["miou"] for point in points]
    axes.errorbar(shots, scores, [point["deviation"] or 0 for point in points], color="black", marker="o", capsize=3)
    axes.set_xscale("log")
    axes.set_xticks(shots, [str(one) for one in shots])
    axes.minorticks_off()
    axes.set_xlabel("annotated images to train on")
    axes.set_ylabel("mean IoU")
    axes.grid(alpha=0.3)
    return saved(figure)
