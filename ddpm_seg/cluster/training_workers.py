"""The processes that train one network together on Ray Train: how many there can be, and running them."""

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
    """This process's role among those that train one network together."""

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"
    parallel: Callable[[nn.Module], nn.Module] | None = None
    """Wraps the network for gradient averaging (DistributedDataParallel), if there are several workers."""
    stop_asked: Callable[[], bool] = lambda: False
    """Whether the driver has asked the first worker to save its state and stop. Only the driver receives signals."""


def free_gpus() -> int:
    """The number of unclaimed GPUs.

    On a Ray cluster (RAY_ADDRESS), those that no process holds; `ray job submit --entrypoint-num-gpus` makes this
    process hold some. Without a cluster, this machine's GPUs if there are several, else 0: one process can use a single
    GPU by itself.
    """
    if not os.environ.get("RAY_ADDRESS"):
        return torch.cuda.device_count() if torch.cuda.device_count() > 1 else 0
    import ray  # takes seconds, which training in one process saves

    from ddpm_seg.cluster.nodes import connect

    connect()
    return int(ray.available_resources().get("GPU", 0))


def train_on_ray(train: Callable[[C, Worker], object], config: C, workers: int) -> None:
    """Runs `train` in `workers` Ray Train workers. If one is lost, all restart, up to three times: `train` must resume
    from what it saved.

    Raises StageError if they keep failing, and TrainingDiverged if a loss is not finite. On KeyboardInterrupt, waits up
    to SAVE_SECONDS for the first worker to save its state.
    """
    import ray
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    from ddpm_seg.cluster.failures import one_line, redact_lines
    from ddpm_seg.cluster.nodes import connect

    connect()
    stop: Any = ray.remote(num_cpus=0)(_Stop).remote()

    # ignore_cleanup_errors: the workers of a stopped training may still write into the folder.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        trainer = TorchTrainer(
            _loop(train, config, stop),
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


def _loop(train: Callable[[C, Worker], object], config: C, stop: Any) -> Callable[[], None]:
    """What each worker runs: `train` in its own role. It tells the `_Stop` actor `stop` why it ended early."""

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
            raise RuntimeError(said)  # restarting would only diverge again
        try:
            train(config, worker)
        except TrainingDiverged as error:
            ray.get(stop.diverged.remote(str(error)))
            raise
        except KeyboardInterrupt:  # `Saving` raises it after saving the state
            ray.get(stop.saved.remote())
            raise RuntimeError("stopped by the driver") from None

    return loop


class _Stop:
    """An actor that passes messages: from the driver that the training should stop, and from the workers that the
    state is saved or that the training diverged."""

    def __init__(self) -> None:
        self._training = self._asked = self._saved = False
        self._diverged: str | None = None

    def diverged(self, said: str) -> None:
        self._diverged = self._diverged or said

    def why_diverged(self) -> str | None:
        return self._diverged

    def ask(self) -> bool:
        """Called by the driver: asks the first worker to stop. False if it has not started, so has nothing to save."""
        self._asked = True
        return self._training

    def asked(self) -> bool:
        """Called by the first worker while it trains: whether the driver has asked it to stop."""
        self._training = True
        return self._asked

    def saved(self) -> None:
        self._saved = True

    def is_saved(self) -> bool:
        return self._saved


class _StopAsked:
    """Asks a `_Stop` actor once per ASK_SECONDS: asking takes about a millisecond, as long as a short training step."""

    def __init__(self, stop: Any) -> None:
        self._stop, self._next = stop, 0.0

    def __call__(self) -> bool:
        import ray

        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + ASK_SECONDS
        return bool(ray.get(self._stop.asked.remote()))


def _wait_for_state(stop: Any) -> None:
    """Asks the first worker to save its state, and waits up to SAVE_SECONDS for it."""
    import ray

    end = time.monotonic() + SAVE_SECONDS
    try:
        if ray.get(stop.ask.remote(), timeout=SAVE_SECONDS):
            while time.monotonic() < end and not ray.get(stop.is_saved.remote(), timeout=SAVE_SECONDS):
                time.sleep(0.1)
    except ray.exceptions.RayError as error:  # the cluster was stopped too
        logger.warning("the state could not be saved: %s", type(error).__name__)


def _in_a_thread(function: Callable[[], object]) -> None:
    """Calls `function` in a new thread and waits for it.

    In the main thread, Ray Train would install its own handler for Ctrl-C, which ends the workers before they can save
    and the process with status 0.
    """
    done: Future[object] = Future()

    def call() -> None:
        try:
            done.set_result(function())
        except BaseException as error:
            done.set_exception(error)

    Thread(target=call, name="ray train", daemon=True).start()
    done.result()
