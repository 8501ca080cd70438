"""Runs a training in Ray Train workers, or in this process alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ddpm_seg.cluster.training_workers import Worker, train_on_ray
from ddpm_seg.model.device.choice import default_device

C = TypeVar("C")


def train_in(workers: int, train: Callable[[C, Worker], object], config: C) -> None:
    """Runs `train(config, worker)` in `workers` Ray Train processes, or in this process for 0. Raises what
    `train_on_ray` does."""
    if not workers:
        train(config, Worker(device=default_device()))
        return
    train_on_ray(train, config, workers)
