"""One way from a training to the processes that do it together: Ray Train workers, or this one alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from ddpm_seg import storage
from ddpm_seg.cluster.training_workers import Worker, train_on_ray
from ddpm_seg.model.devices import default_device

C = TypeVar("C")


def train_in(workers: int, train: Callable[[C, Worker], object], config: C) -> None:
    """`train(config, worker)` in each of `workers` processes, or in this one. Raises what `train_on_ray` does."""
    if not workers:
        train(config, Worker(device=default_device()))
        return
    there: Any = config
    # Workers have working folders of their own.
    train_on_ray(train, dataclasses.replace(there, output=storage.normalize(there.output)), workers)
