"""Stopping a training: signals are delayed until the end of a step, and the driver asks Ray Train workers to save."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from threading import Thread

import pytest

from ddpm_seg.cluster.training_workers import Worker, train_on_ray
from ddpm_seg.interruption import held_back
from ddpm_seg.training.saving import Saving


def test_a_signal_waits_for_the_end_of_the_block() -> None:
    steps: list[str] = []

    @held_back()
    def step() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        steps.append("whole")

    with pytest.raises(KeyboardInterrupt):
        step()
    assert steps == ["whole"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(("interrupt", "expected"), [("signal", [4]), ("other means", [])])
def test_the_state_is_saved_after_the_step_that_a_signal_met_and_never_within_one(
    interrupt: str, expected: list[int]
) -> None:
    saved: list[int] = []
    state = 0

    def train() -> None:
        nonlocal state
        with Saving(lambda: saved.append(state), Worker(), seconds=1e9) as saving:
            while True:
                with saving.step():
                    state += 1
                    if state == 3 and interrupt == "signal":
                        os.kill(os.getpid(), signal.SIGINT)
                    elif state == 3:
                        raise KeyboardInterrupt
                    state += 1

    with pytest.raises(KeyboardInterrupt):
        train()
    assert saved == expected


def test_the_state_is_saved_every_so_often_by_the_first_worker_only() -> None:
    for rank, expected in ((0, 3), (1, 0)):
        saved: list[int] = []
        with Saving(lambda: saved.append(1), Worker(rank=rank, world_size=2), seconds=0) as saving:  # noqa: B023
            for _ in range(3):
                with saving.step():
                    pass
        assert len(saved) == expected


@pytest.mark.slow
def test_an_interrupted_driver_lets_the_first_ray_train_worker_save(ray_cluster: str, tmp_path: Path) -> None:
    state, begun = tmp_path / "state", tmp_path / "begun"

    def train(config: None, worker: Worker) -> None:
        from ddpm_seg.training.saving import Saving

        with Saving(lambda: state.write_text("saved") and None, worker, seconds=1e9) as saving:
            while True:
                with saving.step():
                    begun.touch()
                    time.sleep(0.05)

    def interrupt() -> None:
        while not begun.exists():
            time.sleep(0.1)
        time.sleep(2)
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        train_on_ray(train, None, 1)
    assert state.read_text() == "saved"
