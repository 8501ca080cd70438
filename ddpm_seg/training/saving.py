"""Saves a training's state every few minutes and when it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

from ddpm_seg import storage
from ddpm_seg.cluster.training_workers import Worker
from ddpm_seg.interruption import held_back


class Resumable(Protocol):
    """A training whose state can be saved and restored."""

    def save(self, uri: str) -> None:
        """Writes everything needed to resume."""

    def resume(self, uri: str) -> None:
        """Restores a saved state. Raises ValueError if it is damaged or was made with other settings."""


def keeping(training: Resumable, uri: str | None, worker: Worker, *, seconds: float) -> Saving:
    """Restores the state at `uri` if there is one, and returns the Saving that keeps it up to date; None saves
    nothing."""
    if uri is not None and storage.exists(uri):
        training.resume(uri)

    def save() -> None:
        if uri is not None:
            training.save(uri)

    return Saving(save, worker, seconds=seconds)


class Saving:
    """Context manager around a training; wrap each of its steps in `step`.

    Only the first worker saves, and only between steps, when the state is consistent.
    """

    def __init__(self, save: Callable[[], None], worker: Worker, *, seconds: float) -> None:
        self._save, self._worker, self._seconds = save, worker, seconds
        self._saved = time.monotonic()
        self._whole = True

    def __enter__(self) -> Saving:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt) and self._whole:
            self._save_now()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Wraps one step, then saves if it is time.

        Raises KeyboardInterrupt after the step if Ctrl-C, SIGTERM or the cluster's driver asked to stop during it;
        `__exit__` then saves.
        """
        with held_back():
            self._whole = False
            yield
            self._whole = True
        if self._worker.rank == 0 and time.monotonic() - self._saved >= self._seconds:
            self._save_now()
        if self._worker.stop_asked():
            raise KeyboardInterrupt

    def _save_now(self) -> None:
        if self._worker.rank == 0:
            self._save()
            self._saved = time.monotonic()
