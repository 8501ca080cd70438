"""Progress of a training: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time

from tqdm import tqdm

logger = logging.getLogger(__name__)

LOG_SECONDS = 30.0


class Progress:
    """Counts up to `total`, one by one; use it as a context manager. Its last line says how long all of it took."""

    def __init__(self, what: str, *, total: int, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self._first = 0
        self._shown = ""
        self._start = self._logged = time.monotonic()
        self._bar = tqdm(desc=what, total=total, unit=unit) if sys.stderr.isatty() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self.done > self._first:
            seconds, number = time.monotonic() - self._start, self.done - self._first
            logger.info(
                "%s: %d x %s in %s, %.3g s each%s",
                self.what, number, self.unit, _short(seconds), seconds / number, self._shown,
            )  # fmt: skip

    def at(self, done: int, **shown: str) -> None:
        """Number `done` is done; the first call says what was done before. A total that it exceeds moves on with it."""
        if not self.done:
            self._first = done - 1
            if self._bar is not None:
                self._bar.initial = self._bar.n = self._first
        self.done, self.total = done, max(self.total, done)
        self._shown = "".join(f", {name} {value}" for name, value in shown.items())
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(done - self._bar.n)
        elif time.monotonic() - self._logged > LOG_SECONDS:
            self._logged = time.monotonic()
            left = (self._logged - self._start) / (done - self._first) * (self.total - done)
            left_or_not = f", {_short(left)} left" if done < self.total else ""  # nobody knows after a wrong guess
            logger.info("%s: %d of %d%s%s", self.what, done, self.total, self._shown, left_or_not)


def _short(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"
