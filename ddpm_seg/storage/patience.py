"""Trying again, for a while, what may pass: the one place where storage repeats itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from ddpm_seg.storage.errors import StorageUnavailableError, clear_errors, describe, may_pass
from ddpm_seg.storage.uris import redact

T = TypeVar("T")

PATIENCE_S = 120.0  # from the first failure to the last attempt's beginning
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 20.0

logger = logging.getLogger(__name__)
# By bucket or host: when this process last said that it waits for it, and when it last gave it up.
_told: dict[str, float] = {}
_given_up: dict[str, float] = {}


def patiently(uri: str, operation: Callable[[], T]) -> T:
    """What `operation` returns, tried again with exponential backoff and full jitter for what may pass.

    `operation` must bear being repeated after it was done and only its answer was lost. Errors are those of
    `clear_errors`; at the end of patience a StorageUnavailableError with what was answered, and how long it was tried.
    What was given up is asked once, without waiting, for as long again: a list may name a dead host a thousand times.
    """
    patience = 0.0 if _is_recent(_given_up, uri) else PATIENCE_S
    retrying = Retrying(
        retry=retry_if_exception(may_pass),
        wait=wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S),
        stop=(stop := _Patience(patience)),
        before_sleep=lambda state: _tell(uri, state),
        reraise=True,
    )
    with clear_errors(uri):
        try:
            return retrying(operation)
        except Exception as error:
            if stop.first_failure is None or not may_pass(error):
                raise
            if patience:
                _given_up[_place(uri)] = time.monotonic()
            tries, seconds = retrying.statistics["attempt_number"], time.monotonic() - stop.first_failure
            raise StorageUnavailableError(
                f"{redact(uri)}: {describe(error, uri)}; tried {tries} times in {seconds:.0f} s after it first failed"
            ) from None


@dataclass
class _Patience:
    """Ends the tries some time after the first failure: from the start on, a long upload would get no second one."""

    seconds: float
    first_failure: float | None = None

    def __call__(self, state: RetryCallState) -> bool:
        now = time.monotonic()
        if self.first_failure is None:
            self.first_failure = now
        return now - self.first_failure + state.upcoming_sleep > self.seconds


def _tell(uri: str, state: RetryCallState) -> None:
    """One line for a bucket or host as long as it lasts, however many threads and files wait for it."""
    if state.outcome is None or _is_recent(_told, uri):
        return
    _told[_place(uri)] = time.monotonic()
    error = state.outcome.exception()
    assert error is not None
    logger.warning("%s: %s; trying again, for up to %.0f s a request", redact(uri), describe(error, uri), PATIENCE_S)


def _is_recent(times: dict[str, float], uri: str) -> bool:
    return time.monotonic() - times.get(_place(uri), -PATIENCE_S) < PATIENCE_S


def _place(uri: str) -> str:
    """Its bucket or host."""
    return redact("/".join(uri.split("/")[:3]))
