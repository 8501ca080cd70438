"""The processes that train one network together: how many there can be, and how they are run."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Thread
from typing import Any, TypeVar

import torch
from torch import nn

from ddpm_seg.errors import StageError, TrainingDiverged

C = TypeVar("C")

ASK_SECONDS = 1.0
SAVE_SECONDS = 20.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Worker:
    """This process's place among those that train one network."""

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"
    parallel: Callable[[nn.Module], nn.Module] | None = None
    """Wraps the network for gradient averaging (DistributedDataParallel) where there are several workers."""
    stop_asked: Callable[[], bool] = lambda: False
    """Whether the driver wants the first worker to save its state and stop. Signals reach the driver only."""


def free_gpus() -> int:
    """GPUs of the cluster that this job runs on and that nobody holds, such as this process by
    `ray job submit --entrypoint-num-gpus`; without a cluster this machine's, where one process cannot use all."""
    if not os.environ.get("RAY_ADDRESS"):
        return torch.cuda.device_count() if torch.cuda.device_count() > 1 else 0
    import ray  # seconds, which a training in one process need not spend

    from ddpm_seg.cluster.nodes import connect

    connect()
    return int(ray.available_resources().get("GPU", 0))


def train_on_ray(train: Callable[[C, Worker], object], config: C, workers: int) -> None:
    """`train` in so many Ray Train workers. Where one is lost, all begin again: `train` resumes from what it saved.

    Raises StageError where they fail for good, TrainingDiverged where a loss is not finite. On KeyboardInterrupt the
    first worker may save before it is raised.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    from ddpm_seg.cluster.failures import one_line, redact_lines
    from ddpm_seg.cluster.nodes import connect

    connect()
    stop: Any = ray.remote(num_cpus=0)(_Stop).remote()

    def loop() -> None:
        import ray.train.torch

        context = ray.train.get_context()
        rank = context.get_world_rank()
        worker = Worker(
            rank=rank,
            world_size=context.get_world_size(),
            device=str(ray.train.torch.get_device()),
            parallel=ray.train.torch.prepare_model,
            stop_asked=_StopAsked(stop) if rank == 0 else lambda: False,
        )
        if said := ray.get(stop.why_diverged.remote()):
            raise RuntimeError(said)  # a worker that begins again would only come to the same
        try:
            train(config, worker)
        except TrainingDiverged as error:
            ray.get(stop.diverged.remote(str(error)))
            raise
        except KeyboardInterrupt:  # as `Saving` raises it; the state is saved
            ray.get(stop.saved.remote())
            raise RuntimeError("stopped by the driver") from None

    # Ignored: what the workers of a stopped training still write into it.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        trainer = TorchTrainer(
            loop,
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=torch.cuda.is_available() or free_gpus() > 0),
            run_config=RunConfig(storage_path=folder, failure_config=FailureConfig(max_failures=3)),
        )
        try:
            _in_a_thread(trainer.fit)
        except TrainingFailedError as error:
            if said := ray.get(stop.why_diverged.remote()):
                raise TrainingDiverged(said) from error
            logger.error("training: a worker failed\n%s", redact_lines(str(error)))
            raise StageError(one_line(error)) from error
        except KeyboardInterrupt:
            _wait_for_state(stop)
            raise


class _Stop:
    """An actor between the driver, which is told to stop, and the workers, which have the state to save or diverge."""

    def __init__(self) -> None:
        self._training = self._asked = self._saved = False
        self._diverged: str | None = None

    def diverged(self, said: str) -> None:
        self._diverged = self._diverged or said

    def why_diverged(self) -> str | None:
        return self._diverged

    def ask(self) -> bool:
        """Asks the first worker to stop; False if it has nothing to save yet."""
        self._asked = True
        return self._training

    def asked(self) -> bool:
        self._training = True
        return self._asked

    def saved(self) -> None:
        self._saved = True

    def is_saved(self) -> bool:
        return self._saved


class _StopAsked:
    """Asks a `_Stop` actor every so often: each question takes a millisecond, and a step may take as little."""

    def __init__(self, stop: Any) -> None:
        self._stop, self._next = stop, 0.0

    def __call__(self) -> bool:
        import ray

        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + ASK_SECONDS
        return bool(ray.get(self._stop.asked.remote()))


def _wait_for_state(stop: Any) -> None:
    """Gives the first worker SAVE_SECONDS to save its state."""
    import ray

    end = time.monotonic() + SAVE_SECONDS
    try:
        if ray.get(stop.ask.remote(), timeout=SAVE_SECONDS):
            while time.monotonic() < end and not ray.get(stop.is_saved.remote(), timeout=SAVE_SECONDS):
                time.sleep(0.1)
    except ray.exceptions.RayError as error:  # the cluster was stopped too
        logger.warning("the state could not be saved: %s", type(error).__name__)


def _in_a_thread(function: Callable[[], object]) -> None:
    """Calls `function` in a thread of its own and waits for it.

    In the main thread Ray Train puts a handler of its own for Ctrl-C, which ends the workers before they can save and
    the process with status 0.
    """
    done: Future[object] = Future()

    def call() -> None:
        try:
            done.set_result(function())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=call, name="ray train", daemon=True).start()
    done.result()
