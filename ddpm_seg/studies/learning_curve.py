"""A learning curve: the scores of ensembles trained on ever more of the annotated images, beside simpler methods."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from ddpm_seg import storage
from ddpm_seg.csv_text import csv_text
from ddpm_seg.evaluation.pages.curve_page import curve_page
from ddpm_seg.evaluation.scores.expected_gains import ExpectedGain, expected_gain, most_first, sentence
from ddpm_seg.json_text import json_file
from ddpm_seg.model.bundle.ensemble_bundle import network_digest
from ddpm_seg.model.device.choice import default_device
from ddpm_seg.studies.compare import Training, method_result
from ddpm_seg.studies.evaluate_config import METRICS, PAGE, Baseline, EvaluateConfig
from ddpm_seg.studies.few_shot_splits import Pool, how_trained, load_pool, score_splits
from ddpm_seg.studies.figures import curve_figure, drawn
from ddpm_seg.studies.results import mean_and_deviation
from ddpm_seg.studies.splits import draw_splits
from ddpm_seg.training.rivals.supervised import SupervisedConfig

logger = logging.getLogger(__name__)

CURVE, MODEL = "curve", "this model"


def run_curve(config: EvaluateConfig) -> dict[str, Any]:
    """Writes metrics.json with the mean and deviation for each of `config.shots`, and with what each class should gain
    from more annotations; curve.csv, curve.png and curve.svg; and evaluation.html.

    All are scored on the same images of each split, and so are `config.baselines`. What is there from an interrupted
    evaluation is reused. Raises what `run_splits` raises.
    """
    shots, pool, points = sorted(config.shots), load_pool(config), []
    # The largest first: if there are too few images for it, nothing has been trained yet.
    for number in reversed(shots):
        own = replace(config, shots=(number,), output=_folder(config, number), baselines=())
        points.append(score_splits(own, pool, kept_back=shots[-1]))
        logger.info("%d images: mean IoU %.4f", number, points[-1]["miou"])
    points.reverse()
    result: dict[str, Any] = {
        "curve": [{name: point[name] for name in ("shots", "miou", "deviation", "means")} for point in points],
        "splits": config.splits,
    }
    gains = _gains(pool, points)
    result["expected_gains"] = [asdict(one) for one in most_first(gains)]
    result["advice"] = sentence(gains, shots[-1]) if gains else None
    curves = {MODEL: [{name: point[name] for name in ("shots", "miou", "deviation")} for point in points]}
    if config.baselines:
        training = _training(pool)
        curves |= {training.title(method): _baseline(config, pool, training, method) for method in config.baselines}
        result["baselines"] = [{"method": title, "curve": curve} for title, curve in list(curves.items())[1:]]
    storage.write_bytes(storage.join(config.output, METRICS), json_file(result))
    figure = drawn(lambda: curve_figure(curves, "shots", "annotated images to train on"))
    for suffix, content in {"csv": _csv(curves), **figure}.items():
        storage.write_bytes(storage.join(config.output, f"{CURVE}.{suffix}"), content)
    page = curve_page(
        curves,
        gains,
        pool.task,
        images=storage.redact(config.images),
        splits=config.splits or 0,
        figure=figure.get("png"),
    )
    storage.write_bytes(storage.join(config.output, PAGE), page.encode())
    return result


def _gains(pool: Pool, points: Sequence[dict[str, Any]]) -> list[ExpectedGain]:
    """What each class should gain from twice as many images. A class that some split's images do not show is left
    out."""
    shots, gains = [point["shots"] for point in points], []
    labels = [one.placement.crop(one.label) for one in pool.annotations]
    for class_id, name in enumerate(pool.task.class_names):
        ious = [point["classes"][class_id]["ious"] for point in points]
        if any(iou is None for own in ious for iou in own):
            continue
        counts = [int((label == class_id).sum()) for label in labels]
        shown = sum(count > 0 for count in counts)
        gains.append(expected_gain(name, shots, np.array(ious).T, pixels=sum(counts), images=shown))
    return gains


def _folder(config: EvaluateConfig, shots: int) -> str:
    return storage.join(config.output, f"shots-{shots}")


def _training(pool: Pool) -> Training:
    """The settings of the model's own ensemble, for the other methods."""
    ensemble, copies = how_trained(pool.bundle)
    assert pool.bundle.features is not None  # it has an ensemble
    return Training(
        task=pool.task,
        bundle=pool.bundle,
        features=pool.bundle.features,
        weights={"network": network_digest(pool.bundle)},
        ensemble=ensemble,
        supervised=SupervisedConfig(),
        copies=copies,
        device=default_device(),
    )


def _baseline(config: EvaluateConfig, pool: Pool, training: Training, method: Baseline) -> list[dict[str, Any]]:
    """The curve of a method that does not use the trained network."""
    assert config.splits is not None
    curve = []
    for shots in sorted(config.shots):
        splits = draw_splits(pool.annotations, count=config.splits, shots=shots, kept_back=max(config.shots))
        uris = [storage.join(_folder(config, shots), f"{method}-{split.name}.json") for split in splits]
        found = [method_result(uri, training, method, split) for uri, split in zip(uris, splits, strict=True)]
        score = mean_and_deviation([one.miou for one in found])
        curve.append({"shots": shots, "miou": score["mean"], "deviation": score["deviation"]})
    return curve


def _csv(curves: dict[str, list[dict[str, Any]]]) -> bytes:
    header = ["shots", "miou", "deviation"]
    rows = ([*(point[name] for name in header), method] for method, points in curves.items() for point in points)
    return csv_text([*header, "method"], rows).encode()
