"""Reproduces the six benchmarks of DDPM-Seg (Baranchuk et al., ICLR 2022, table 2) from published files."""

from __future__ import annotations

import logging
from typing import Any

from ddpm_seg import storage
from ddpm_seg.data.annotations.find import find_pairs
from ddpm_seg.json_text import json_file
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.model.published.convert import ConvertConfig, convert
from ddpm_seg.studies.evaluate import EvaluateConfig, run_evaluate
from ddpm_seg.studies.reproduce_config import BENCHMARKS, ReproduceConfig
from ddpm_seg.tasks import TASKS
from ddpm_seg.training.ensemble.few_shot import TrainConfig, train_from_config

logger = logging.getLogger(__name__)

STEPS, BLOCKS = (50, 150, 250), (5, 6, 7, 8, 12)


def reproduce(config: ReproduceConfig) -> list[dict[str, Any]]:
    """Trains and scores the benchmarks of `config` by the published protocol; returns one row per benchmark for JSON.

    Uses the first images by name for training and testing, as the published scripts do. Converted DDPMs and trained
    models that exist at the output are reused. Before any training, raises ValueError or OSError for what the user can
    correct; later, what `run_label` raises.
    """
    names = config.names()
    for name in names:
        _check(config, name)
    rows = []
    for name in names:
        model, folder = _trained(config, name), storage.join(config.output, name)
        test = storage.join(config.datasets, name, "real", "test")
        limit = BENCHMARKS[name].testing_images
        found = run_evaluate(EvaluateConfig(images=test, output=folder, model=model, limit=limit))
        benchmark = BENCHMARKS[name]
        rows.append(
            {
                "task": name,
                "model_id": found["model_id"],
                "miou": found["miou"],
                "images": found["images"],
                "published_miou": benchmark.miou / 100,
                "published_deviation": benchmark.deviation / 100,
            }
        )
        logger.info("%s: mean IoU %.4f, published %.3f", name, found["miou"], benchmark.miou / 100)
    storage.write_bytes(storage.join(config.output, "benchmarks.json"), json_file(rows))
    return rows


def _check(config: ReproduceConfig, name: str) -> None:
    """Raises FileNotFoundError or ValueError if the checkpoint or annotated images are missing, before any training."""
    checkpoint = storage.join(config.checkpoints, BENCHMARKS[name].checkpoint)
    if not storage.exists(checkpoint):
        raise FileNotFoundError(f"{storage.redact(checkpoint)} does not exist; {name} needs this checkpoint")
    wanted = {"train": BENCHMARKS[name].training_images, "test": BENCHMARKS[name].testing_images}
    for part, images in wanted.items():
        uri = storage.join(config.datasets, name, "real", part)
        found = len(find_pairs(uri, TASKS[name]))
        if found < images:
            raise ValueError(f"{storage.redact(uri)} has {found} annotated images; the benchmark needs {images}")


def _trained(config: ReproduceConfig, name: str) -> str:
    """Trains the benchmark's model, unless it exists, and returns its URI."""
    model = storage.join(config.output, "models", name)
    if storage.exists(storage.join(model, "bundle.json")):
        logger.info("%s: using the existing model at %s", name, model)
        return model
    benchmark = BENCHMARKS[name]
    train_from_config(
        TrainConfig(
            model=_converted(config, benchmark.checkpoint),
            images=storage.join(config.datasets, name, "real", "train"),
            task=name,
            output=model,
            members=config.members,
            steps=STEPS,
            blocks=BLOCKS,
            recipe="published",
            iterations=config.iterations,
            limit=benchmark.training_images,
        )
    )
    return model


def _converted(config: ReproduceConfig, checkpoint: str) -> str:
    """Converts the checkpoint to a bundle, unless it exists, with the noise that the published scripts draw on a GPU;
    returns its URI."""
    uri = storage.join(config.output, "models", "ddpm-" + checkpoint.removesuffix(".pt"))
    if not storage.exists(storage.join(uri, "bundle.json")):
        source = storage.join(config.checkpoints, checkpoint)
        save_bundle(convert(ConvertConfig(output=uri, ddpm=source, model_flags=config.model_flags)), uri)
    return uri
