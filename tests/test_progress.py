from __future__ import annotations

import logging
import threading

import pytest
import torch

from ddpm_seg import progress
from ddpm_seg.progress import Progress, track


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO)
    return now


def test_a_log_line_now_and_then_counts_what_is_left_by_the_pace_of_this_process(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with Progress("training", total=1000, unit="batches") as shown:
        for done in range(801, 901):  # 800 were done before
            clock[0] += 1
            shown.at(done, loss=torch.tensor(0.5), members=3)
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [
        "training: 831 of 1000 batches, loss 0.5000, members 3, 2 min 49 s left",
        "training: 862 of 1000 batches, loss 0.5000, members 3, 2 min 18 s left",
        "training: 893 of 1000 batches, loss 0.5000, members 3, 1 min 47 s left",
        "training: 900 of 1000 batches, loss 0.5000, members 3, 100 in 1 min 40 s, 1 s each",
    ]


def test_a_total_that_was_a_guess_moves_on(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with Progress("training", total=5, unit="batches") as shown:
        for done in range(1, 41):
            clock[0] += 1
            shown.at(done)
    assert [record.getMessage() for record in caplog.records] == [
        "training: 31 of 31 batches",
        "training: 40 of 40 batches, 40 in 40.0 s, 1 s each",
    ]


def test_what_earlier_processes_did_is_no_pace_of_this_one(
    clock: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    with Progress("run-000001", total=100, unit="images", done=40) as shown:
        for done in (60, 80):  # in chunks of twenty
            clock[0] += 40
            shown.at(done, errors=1)
    assert [record.getMessage() for record in caplog.records] == [
        "run-000001: 60 of 100 images, errors 1, 1 min 20 s left",
        "run-000001: 80 of 100 images, errors 1, 40.0 s left",
        "run-000001: 80 of 100 images, errors 1, 40 in 1 min 20 s, 2 s each",
    ]


def test_nothing_done_is_not_worth_a_line(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    with Progress("features", total=5, unit="images"):
        pass
    assert not caplog.records


def test_a_terminal_gets_a_bar_that_begins_where_the_work_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("features", total=50, unit="images") as shown:
        for done in range(48, 51):
            shown.at(done)
    assert "50/50" in capsys.readouterr().err


def test_a_piece_that_takes_long_is_reported_while_it_lasts(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress, "LOG_SECONDS", 0.05)
    caplog.set_level(logging.INFO)
    said = threading.Event()
    monkeypatch.setattr(progress.logger, "info", lambda *_: said.set())
    with Progress("run-000001", total=2, unit="images", done=0):
        assert said.wait(60), "nothing was said, though `at` was not called"


def test_short_work_leaves_no_line_and_long_work_counts(clock: list[float], caplog: pytest.LogCaptureFixture) -> None:
    assert list(track(range(3), "reading", unit="images")) == [0, 1, 2]
    assert not caplog.records
    for _ in track(iter(range(4)), "exporting", unit="images", total=4):
        clock[0] += 20
    assert [record.getMessage() for record in caplog.records] == [
        "exporting: 2 of 4 images, 40.0 s left",
        "exporting: 4 of 4 images",
        "exporting: 4 of 4 images, 4 in 1 min 20 s, 20 s each",
    ]
