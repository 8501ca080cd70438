"""The processes that train one network together: how many there can be, and how they are run."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

C = TypeVar("C")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Worker:
    """This process's place among those that train one network."""

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"
    parallel: Callable[[nn.Module], nn.Module] | None = None
    """Wraps the network for gradient averaging (DistributedDataParallel) where there are several workers."""


def free_gpus() -> int:
    """GPUs of the cluster that this job runs on and that nobody holds, such as this process by
    `ray job submit --entrypoint-num-gpus`; without a cluster this machine's, where one process cannot use all."""
    if not os.environ.get("RAY_ADDRESS"):
        return torch.cuda.device_count() if torch.cuda.device_count() > 1 else 0
    import ray  # seconds, which a training in one process need not spend

    ray.init(ignore_reinit_error=True)
    return int(ray.available_resources().get("GPU", 0))


def train_here(train: Callable[[C, Worker], object], config: C) -> None:
    """`train` in this process alone."""
    train(config, Worker(device="cuda" if torch.cuda.is_available() else "cpu"))


def train_on_ray(train: Callable[[C, Worker], object], config: C, workers: int) -> None:
    """`train` in so many Ray Train workers. Where one is lost, all begin again: `train` resumes from what it saved.

    Raises StageError where they fail for good.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    from ddpm_seg.pipeline.stages import StageError
    from ddpm_seg.pipeline.stream import one_line, redact_lines

    def loop() -> None:
        import ray.train.torch

        context = ray.train.get_context()
        worker = Worker(
            rank=context.get_world_rank(),
            world_size=context.get_world_size(),
            device=str(ray.train.torch.get_device()),
            parallel=ray.train.torch.prepare_model,
        )
        train(config, worker)

    with tempfile.TemporaryDirectory() as folder:
        trainer = TorchTrainer(
            loop,
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=torch.cuda.is_available() or free_gpus() > 0),
            run_config=RunConfig(storage_path=folder, failure_config=FailureConfig(max_failures=3)),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            logger.error("training: a worker failed\n%s", redact_lines(str(error)))
            raise StageError(one_line(error)) from error
