"""Shows the progress of long work: a bar on a terminal, a line every 30 seconds in a log."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from typing import SupportsFloat, TypeVar

from tqdm import tqdm

from ddpm_seg.durations import duration

logger = logging.getLogger(__name__)

T = TypeVar("T")

LOG_SECONDS, BAR_SECONDS = 30.0, 0.5


def track(items: Iterable[T], what: str, *, unit: str, total: int | None = None) -> Iterator[T]:
    """Yields `items` and shows how many the caller has dealt with, of `total` (None: of their number).

    Where that takes less than half a minute, nothing is logged.
    """
    if total is None:
        assert isinstance(items, Sized)
        total = len(items)
    with Progress(what, total=total, unit=unit, done=0, shortest=LOG_SECONDS) as progress:
        for done, item in enumerate(items, 1):
            yield item
            progress.at(done)


class Progress:
    """Counts `unit`, such as "images", up to `total`. Use it as a context manager; at the end it logs the time taken.

    `done` is how many earlier processes have finished. If it is None, the first call of `at` counts as this process's
    first piece, and everything before that as done earlier. Work that took less than `shortest` seconds is not logged.
    """

    def __init__(self, what: str, *, total: int, unit: str, done: int | None = None, shortest: float = 0) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self._first = done or 0
        self._began = done is not None
        self._values: dict[str, SupportsFloat] = {}
        self._start = self._logged = time.monotonic()
        self._shortest = shortest
        bar = sys.stderr.isatty()
        self._bar = tqdm(desc=what, total=total, initial=self._first, unit=f" {unit}") if bar else None
        self._ended, self._logging = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._log_when_due, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        if self._bar is None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()  # a thread that outlives Python's own end can abort the process
        seconds, number = time.monotonic() - self._start, self.done - self._first
        if self._bar is not None:
            self._bar.close()
        elif number > 0 and seconds >= self._shortest:
            self._log(f", {number} in {duration(seconds)}, {seconds / number:.3g} s each")

    def at(self, done: int, **shown: SupportsFloat) -> None:
        """Reports that `done` pieces are finished. If that exceeds the total, the total grows too.

        `shown` are named numbers to display. A tensor is read only when it is displayed, as reading waits for the GPU.
        """
        if not self._began:
            self._began, self._first = True, done - 1
            if self._bar is not None:
                self._bar.initial = self._bar.n = self._first
        self.done, self.total, self._values = done, max(self.total, done), shown
        if self._bar is not None:
            self._bar.total = self.total
            if self._due(BAR_SECONDS):
                self._bar.set_postfix_str(self._shown().removeprefix(", "), refresh=False)
            self._bar.update(done - self._bar.n)
        else:
            self._log_if_due()

    def _log_when_due(self) -> None:
        """Runs in a thread of its own: a single piece may take longer than the time between two lines."""
        while not self._ended.wait(LOG_SECONDS / 10):
            self._log_if_due()

    def _log_if_due(self) -> None:
        with self._logging:
            if self._ended.is_set() or not self._due(LOG_SECONDS):
                return
            seconds, number, left = self._logged - self._start, self.done - self._first, self.total - self.done
            if number <= 0 or not self._began:
                self._log(f", after {duration(seconds)}")
            else:  # without an estimate if the total was too low
                self._log(f", {duration(seconds / number * left)} left" if left > 0 else "")

    def _log(self, pace: str) -> None:
        logger.info("%s: %d of %d %s%s%s", self.what, self.done, self.total, self.unit, self._shown(), pace)

    def _due(self, seconds: float) -> bool:
        """Whether `seconds` have passed since the last time this was true."""
        due = time.monotonic() - self._logged > seconds
        if due:
            self._logged = time.monotonic()
        return due

    def _shown(self) -> str:
        return "".join(f", {name} {_number(value)}" for name, value in self._values.items())


def _number(value: SupportsFloat) -> str:
    return str(value) if isinstance(value, int) else f"{float(value):.4f}"
