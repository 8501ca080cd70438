"""How far a run is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import logging
import sys
import time

from tqdm import tqdm

logger = logging.getLogger(__name__)

LOG_SECONDS = 30.0
LOG_FRACTION = 0.1


class Progress:
    """Counts images of one run; use as a context manager."""

    def __init__(self, run_id: str, *, total: int, done: int, errors: int = 0) -> None:
        self.run_id, self.total, self.done, self.errors = run_id, total, done, errors
        self._first, self._start = done, time.monotonic()
        self._logged, self._logged_at = done, self._start
        self._bar = tqdm(total=total, initial=done, desc=run_id, unit="img") if sys.stderr.isatty() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
        else:
            self._log()

    def add(self, images: int, errors: int) -> None:
        self.done += images
        self.errors += errors
        if self._bar is not None:
            self._bar.set_postfix(errors=self.errors, refresh=False)
            self._bar.update(images)
        elif self.done < self.total and self._is_time():
            self._log()

    def _is_time(self) -> bool:
        waited = time.monotonic() - self._logged_at
        return waited >= LOG_SECONDS or (waited >= 1 and self.done - self._logged >= LOG_FRACTION * self.total)

    def _log(self) -> None:
        self._logged, self._logged_at = self.done, time.monotonic()
        seconds = max(self._logged_at - self._start, 1e-9)
        rate = (self.done - self._first) / seconds
        logger.info(
            "%s: %d of %d images, %d errors, %.1f a second", self.run_id, self.done, self.total, self.errors, rate
        )
