"""Reproduces the table of DDPM-Seg (Baranchuk et al., ICLR 2022, table 2) from published files."""

from __future__ import annotations

import logging
from typing import Any

from ddpm_seg import storage
from ddpm_seg.data.annotations.find import find_pairs
from ddpm_seg.json_text import json_file
from ddpm_seg.studies.reproduce.config import ReproduceConfig
from ddpm_seg.studies.reproduce.ensembles import checkpoint_of, ensemble_scores
from ddpm_seg.studies.reproduce.published_scores import BENCHMARKS, NetworkName, published_score
from ddpm_seg.studies.reproduce.reproduced import Reproduced
from ddpm_seg.studies.reproduce.students import STUDENTS, student_scores, synthetic_file
from ddpm_seg.studies.results import mean_and_deviation
from ddpm_seg.tasks import TASKS

logger = logging.getLogger(__name__)

FILE = "benchmarks.json"


def reproduce(config: ReproduceConfig) -> list[dict[str, Any]]:
    """Trains and scores networks on benchmarks by the published protocol; returns a row per network and benchmark, for
    JSON.

    Uses the first images by name for training and testing, as the published scripts do; `config.splits` over 1 adds
    random splits of the same images. Converted networks and trained models that exist at the output are reused. Before
    any training, raises ValueError or OSError for what the user can correct; later, what `run_label` raises. Files that
    are missing are an error only if `config.network` is empty, or if nothing can be run.
    """
    tasks, networks = config.names(), config.networks()
    cells = [(network, task) for network in networks for task in tasks]
    missing = [_missing(config, network, task) for network, task in cells]
    if any(missing) and (not config.network or all(missing)):
        raise next(filter(None, missing))
    rows = []
    for (network, task), reason in zip(cells, missing, strict=True):
        if reason is not None:
            logger.info("%s, %s: not run: %s", network, task, reason)
        scores = [] if reason is not None else _scores(config, network, task)
        rows.append(_row(network, task, scores, reason))
        storage.write_bytes(storage.join(config.output, FILE), json_file(rows))
    return rows


def _scores(config: ReproduceConfig, network: NetworkName, task: str) -> list[Reproduced]:
    if network in STUDENTS:
        return student_scores(config, network, task)
    return ensemble_scores(config, network, task)


def _row(network: NetworkName, task: str, scores: list[Reproduced], reason: Exception | None) -> dict[str, Any]:
    found = mean_and_deviation([score.miou for score in scores])
    published = published_score(network, task)
    return {
        "network": network,
        "task": task,
        "model_id": scores[0].model_id if scores else None,
        "miou": found["mean"],
        "deviation": found["deviation"],
        "images": scores[0].images if scores else None,
        "splits": [{"split": one.split, "model_id": one.model_id, "miou": one.miou} for one in scores],
        "not_run": str(reason) if reason is not None else None,
        "published_miou": published[0] if published else None,
        "published_deviation": published[1] if published else None,
    }


def _missing(config: ReproduceConfig, network: NetworkName, task: str) -> Exception | None:
    """The error about the first of its files that is missing; None if all exist."""
    try:
        _check(config, network, task)
    except (FileNotFoundError, ValueError) as error:
        return error
    return None


def _check(config: ReproduceConfig, network: NetworkName, task: str) -> None:
    """Raises FileNotFoundError or ValueError if the network's file or annotated images are missing."""
    if network in STUDENTS:
        synthetic_file(config, network, task)
    elif not storage.exists(checkpoint := checkpoint_of(config, network, task)):
        raise FileNotFoundError(f"{storage.redact(checkpoint)} does not exist; {task} needs this checkpoint")
    wanted = {"train": BENCHMARKS[task].training_images, "test": BENCHMARKS[task].testing_images}
    for part, images in wanted.items():
        uri = storage.join(config.datasets, task, "real", part)
        found = len(find_pairs(uri, TASKS[task]))
        if found < images:
            raise ValueError(f"{storage.redact(uri)} has {found} annotated images; the benchmark needs {images}")
