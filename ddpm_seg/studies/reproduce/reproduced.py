"""One score of a published benchmark."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from ddpm_seg.studies.reproduce.published_scores import NetworkName

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reproduced:
    """The score of a network trained on one split of a benchmark's images."""

    split: str
    model_id: str
    miou: float
    """Published mean IoU in [0, 1]."""
    images: int
    """Number of test images."""


def place(network: NetworkName, task: str, number: int) -> str:
    """Where the models and labels of split `number`, from 1, are under the output's folders."""
    name = task if network == "ddpm" else f"{network}/{task}"
    return name if number == 1 else f"{name}-split-{number}"


def reproduced(network: NetworkName, task: str, split: str, metrics: dict[str, Any]) -> Reproduced:
    """The score in the content of `metrics.json`, which is logged too."""
    logger.info("%s, %s, %s: mean IoU %.4f", network, task, split, metrics["miou"])
    return Reproduced(split=split, model_id=metrics["model_id"], miou=metrics["miou"], images=metrics["images"])
