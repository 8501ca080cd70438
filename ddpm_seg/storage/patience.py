"""Retries requests that fail for a reason that may pass. The only place in storage that retries."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, wait_random_exponential

from ddpm_seg.storage.errors import StorageUnavailableError, asks_to_slow_down, clear_errors, describe, may_pass
from ddpm_seg.storage.pace import MOST, MOST_OF_A_WEB_SERVER, Pace
from ddpm_seg.storage.uris import is_http, redact

T = TypeVar("T")

PATIENCE_S = 120.0  # from the first failure to the start of the last attempt
FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 20.0

logger = logging.getLogger(__name__)
# Times by bucket or host: when this process last logged that it retries, and when it last gave up.
_told: dict[str, float] = {}
_given_up: dict[str, float] = {}


def patiently(uri: str, operation: Callable[[], T]) -> T:
    """Calls `operation`, with retries (exponential backoff, full jitter) for errors that may pass.

    `operation` must be repeatable even if it succeeded and only its answer was lost. Raises the errors of
    `clear_errors`; after PATIENCE_S, StorageUnavailableError with the last answer and how long it was tried. For
    PATIENCE_S after giving up on a bucket or host, each request to it is tried only once, because a list may name a
    dead host a thousand times.
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
            return retrying(lambda: _at_its_pace(uri, operation))
        except Exception as error:
            if stop.first_failure is None or not may_pass(error):
                raise
            if patience:
                _given_up[_place(uri)] = time.monotonic()
            tries, seconds = retrying.statistics["attempt_number"], time.monotonic() - stop.first_failure
            raise StorageUnavailableError(
                f"{redact(uri)}: {describe(error, uri)}; tried {tries} times in {seconds:.0f} s after it first failed"
            ) from None


def _at_its_pace(uri: str, operation: Callable[[], T]) -> T:
    """Calls `operation` when its bucket or host may get another request (see `pace`)."""
    pace = _pace_of(_place(uri))
    with pace.turn() as begun:
        try:
            done = operation()
        except Exception as error:
            if asks_to_slow_down(error):
                pace.slower(begun)
            raise
    pace.faster()
    return done


@functools.lru_cache(maxsize=1024)
def _pace_of(place: str) -> Pace:
    return Pace(MOST_OF_A_WEB_SERVER if is_http(place) else MOST)


@dataclass
class _Patience:
    """Stops retrying `seconds` after the first failure; counted from the start, a long upload would get no retry."""

    seconds: float
    first_failure: float | None = None

    def __call__(self, state: RetryCallState) -> bool:
        now = time.monotonic()
        if self.first_failure is None:
            self.first_failure = now
        return now - self.first_failure + state.upcoming_sleep > self.seconds


def _tell(uri: str, state: RetryCallState) -> None:
    """Logs one line per bucket or host and PATIENCE_S, however many threads and files wait for it."""
    if state.outcome is None or _is_recent(_told, uri):
        return
    _told[_place(uri)] = time.monotonic()
    error = state.outcome.exception()
    assert error is not None
    logger.warning("%s: %s; trying again, for up to %.0f s a request", redact(uri), describe(error, uri), PATIENCE_S)


def _is_recent(times: dict[str, float], uri: str) -> bool:
    return time.monotonic() - times.get(_place(uri), -PATIENCE_S) < PATIENCE_S


def _place(uri: str) -> str:
    """The bucket or host of `uri`."""
    return redact("/".join(uri.split("/")[:3]))
