"""How many samples a student needs: one student for each number of samples, all trained on as many batches."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from ddpm_seg import storage
from ddpm_seg.csv_text import csv_text
from ddpm_seg.model.bundle.student_bundle import StudentHeader
from ddpm_seg.studies.figures import curve_figure, drawn
from ddpm_seg.training.student.distill import kept_or_distilled
from ddpm_seg.training.student.distill_config import DistillConfig
from ddpm_seg.training.student.sample_stream import SampleStream

logger = logging.getLogger(__name__)

CURVE = "curve"


def run_student_curve(config: DistillConfig) -> list[dict[str, Any]]:
    """Writes a student for each of `config.num_samples`, and curve.csv, curve.png and curve.svg with their scores.

    The largest number gets `config.epochs`, the others more, for as many batches. A student's score is that of its best
    epoch on the validation images. Students that are there are kept, and an unfinished one continues. Raises what
    `distill` raises.
    """
    assert config.num_samples is not None
    numbers = sorted(config.num_samples)
    assert config.samples is not None  # checked by the config
    SampleStream(config.samples, config_hash=config.config_hash, num_samples=numbers[-1])  # refuses too many
    points = []
    for number in numbers:
        own = replace(
            config,
            num_samples=(number,),
            output=storage.join(config.output, f"samples-{number}"),
            epochs=max(1, round(config.epochs * numbers[-1] / number)),
        )
        miou = _score(kept_or_distilled(own))
        points.append({"samples": number, "epochs": own.epochs, "miou": miou, "deviation": None})
        logger.info("%d samples: mean IoU %.4f", number, miou)
    figure = drawn(lambda: curve_figure({"": points}, "samples", "samples to learn from"))
    for suffix, content in {"csv": _csv(points), **figure}.items():
        storage.write_bytes(storage.join(config.output, f"{CURVE}.{suffix}"), content)
    return points


def _score(student: StudentHeader) -> float:
    return max(float(epoch["miou"]) for epoch in student.provenance["distillation"]["history"])


def _csv(points: list[dict[str, Any]]) -> bytes:
    header = ["samples", "epochs", "miou"]
    return csv_text(header, ([point[name] for name in header] for point in points)).encode()
