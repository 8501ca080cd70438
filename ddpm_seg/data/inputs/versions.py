"""Asks stores for the current version of each listed object, which a list of names does not tell."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from ddpm_seg import storage
from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.entries import spellings
from ddpm_seg.storage import FileInfo

logger = logging.getLogger(__name__)

ASKERS = 32  # most of the time is latency
WAITING = 16 * ASKERS  # answers that may wait for a slower one before them
TELL_S = 15.0


def with_versions(files: Iterable[FileInfo]) -> Iterator[FileInfo]:
    """The same files in the same order; remote ones of unknown version get their store's ETag, size and time.

    Objects that are missing or not accessible stay unknown; reading them reports why. Two names of one object that
    differ only in Unicode composition become one file. Raises StorageUnavailableError if a store does not answer.
    """
    seen: set[str] = set()
    for file in _answers(files):
        if file.uri.isascii():
            yield file
        elif file.uri not in seen:
            seen.add(file.uri)
            yield file


def _answers(files: Iterable[FileInfo]) -> Iterator[FileInfo]:
    waiting: deque[FileInfo | Future[FileInfo]] = deque()
    asked, told = 0, time.monotonic()
    with ThreadPoolExecutor(ASKERS) as askers:
        try:
            for file in files:
                if _is_unknown(file):
                    waiting.append(askers.submit(_ask, file))
                    asked += 1
                    if time.monotonic() - told > TELL_S:
                        told = time.monotonic()
                        logger.info(
                            "asked for the versions of %d listed objects so far; a list with columns uri, etag and "
                            "size avoids that, and --no-check-versions turns it off",
                            asked,
                        )
                else:
                    waiting.append(file)
                if len(waiting) >= WAITING:
                    yield _answered(waiting.popleft())
            while waiting:
                yield _answered(waiting.popleft())
        finally:
            for left in waiting:
                if isinstance(left, Future):
                    left.cancel()


def _answered(file: FileInfo | Future[FileInfo]) -> FileInfo:
    return file.result() if isinstance(file, Future) else file


def _is_unknown(file: FileInfo) -> bool:
    return file.etag is None and file.modified is None and not storage.is_local(file.uri)


def _ask(file: FileInfo) -> FileInfo:
    for uri in spellings(file.uri):
        try:
            return sources.info(uri, listed=True)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            if sources.is_outage(error, file.uri):
                raise
            break
    return file
