"""Progress of a training: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time

from torch import Tensor
from tqdm import tqdm

logger = logging.getLogger(__name__)

LOG_SECONDS, BAR_SECONDS = 30.0, 0.5


class Progress:
    """Counts up to `total`, one by one; use it as a context manager. Its last line says how long all of it took."""

    def __init__(self, what: str, *, total: int, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = self._first = 0
        self._values: dict[str, float | Tensor] = {}
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
                self.what, number, self.unit, _short(seconds), seconds / number, self._shown(),
            )  # fmt: skip

    def at(self, done: int, **shown: float | Tensor) -> None:
        """Number `done` is done; the first call says what was done before. A total that it exceeds moves on with it.

        `shown` are numbers of interest. A tensor is read, for which a GPU would be waited for, only when it is shown.
        """
        if not self.done:
            self._first = done - 1
            if self._bar is not None:
                self._bar.initial = self._bar.n = self._first
        self.done, self.total, self._values = done, max(self.total, done), shown
        if self._bar is not None:
            self._bar.total = self.total
            if self._due(BAR_SECONDS):
                self._bar.set_postfix_str(self._shown().removeprefix(", "), refresh=False)
            self._bar.update(done - self._bar.n)
        elif self._due(LOG_SECONDS):
            left = (self._logged - self._start) / (done - self._first) * (self.total - done)
            left_or_not = f", {_short(left)} left" if done < self.total else ""  # nobody knows after a wrong guess
            logger.info("%s: %d of %d%s%s", self.what, done, self.total, self._shown(), left_or_not)

    def _due(self, seconds: float) -> bool:
        """Whether so much time has passed since it last was."""
        due = time.monotonic() - self._logged > seconds
        if due:
            self._logged = time.monotonic()
        return due

    def _shown(self) -> str:
        return "".join(f", {name} {_number(value)}" for name, value in self._values.items())


def _number(value: float | Tensor) -> str:
    return str(value) if isinstance(value, int) else f"{float(value):.4f}"


def _short(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} minutes"
