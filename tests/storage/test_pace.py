"""Requests slow down when the store asks for it, and speed up again when it no longer does."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ddpm_seg.storage.errors import asks_to_slow_down
from ddpm_seg.storage.pace import MOST, Pace


def at_once(pace: Pace, threads: int) -> int:
    """How many of so many threads get a turn before any of them ends it."""
    inside, ready, leave = [], threading.Event(), threading.Event()
    expected = min(threads, max(1, int(pace.allowed)))

    def request() -> None:
        with pace.turn():
            inside.append(None)
            if len(inside) == expected:
                ready.set()
            leave.wait(30)

    with ThreadPoolExecutor(threads) as pool:
        for _ in range(threads):
            pool.submit(request)
        assert ready.wait(30)
        seen = len(inside)
        leave.set()
    return seen


def refused(pace: Pace) -> None:
    with pace.turn() as begun:
        pace.slower(begun)


def test_each_refusal_halves_the_requests_at_once_and_good_answers_raise_them_again() -> None:
    pace = Pace(16)
    assert at_once(pace, 40) == 16
    for expected in (8, 4, 2, 1, 1):
        refused(pace)
        assert at_once(pace, 20) == expected
    for _ in range(1 + 2 + 3 + 4):
        pace.faster()
    assert 4 <= pace.allowed < 6
    for _ in range(500):
        pace.faster()
    assert at_once(pace, 40) == 16


def test_refusals_of_requests_that_were_sent_together_count_once() -> None:
    pace = Pace(MOST)
    with pace.turn() as one, pace.turn() as other:
        pace.slower(one)
        pace.slower(other)
    assert pace.allowed == MOST / 2


@pytest.mark.parametrize("seed", range(5))
def test_many_clients_of_one_store_share_what_it_bears(seed: int) -> None:
    """Ten processes, each with its own pace, of a store that refuses all requests beyond 50 at once."""
    chance, bears = random.Random(seed), 50
    paces = [Pace(MOST) for _ in range(10)]
    sent: list[int] = []
    for _ in range(400):  # one round: every process sends all that it may
        now = [max(1, int(pace.allowed)) for pace in paces]
        sent.append(sum(now))
        refusals = max(0, sum(now) - bears)
        for pace, number in zip(paces, now, strict=True):
            if refusals and chance.random() < refusals / sum(now) * number:
                refused(pace)
            else:
                for _ in range(number):
                    pace.faster()
    settled = sent[100:]
    assert sum(settled) / len(settled) == pytest.approx(bears, rel=0.4)
    assert max(settled) < 2 * bears


@pytest.mark.parametrize(
    ("status", "code", "slow"),
    [(503, "SlowDown", True), (503, "", True), (429, "", True), (400, "Throttling", True), (500, "", False),
     (404, "NoSuchKey", False)],
)  # fmt: skip
def test_what_counts_as_asking_to_slow_down(status: int, code: str, slow: bool) -> None:
    error = OSError("an answer")
    error.response = {"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": code}}  # type: ignore[attr-defined]
    assert asks_to_slow_down(error) is slow
