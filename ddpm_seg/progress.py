"""Shows the progress of long work: a bar on a terminal, a line every 30 seconds in a log."""

from __future__ import annotations

import logging
import sys
import time
from typing import SupportsFloat

from tqdm import tqdm

from ddpm_seg.durations import duration

logger = logging.getLogger(__name__)

LOG_SECONDS, BAR_SECONDS = 30.0, 0.5


class Progress:
    """Counts `unit`, such as "images", up to `total`. Use it as a context manager; at the end it logs the time taken.

    `done` is how many earlier processes have finished. If it is None, the first call of `at` counts as this process's
    first piece, and everything before that as done earlier.
    """

    def __init__(self, what: str, *, total: int, unit: str, done: int | None = None) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self._first = done or 0
        self._began = done is not None
        self._values: dict[str, SupportsFloat] = {}
        self._start = self._logged = time.monotonic()
        bar = sys.stderr.isatty()
        self._bar = tqdm(desc=what, total=total, initial=self._first, unit=f" {unit}") if bar else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self.done > self._first:
            seconds, number = time.monotonic() - self._start, self.done - self._first
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
        elif self._due(LOG_SECONDS):
            left = (self._logged - self._start) / max(done - self._first, 1) * (self.total - done)
            self._log(f", {duration(left)} left" if done < self.total else "")  # no estimate if the total was too low

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
