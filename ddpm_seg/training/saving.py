"""When a training saves its state: every so often, and when it is stopped."""

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
    """A training whose state can be kept."""

    def save(self, uri: str) -> None:
        """Writes everything that going on needs."""

    def resume(self, uri: str) -> None:
        """Takes over a saved state. Raises ValueError where it is damaged or of other settings."""


def keeping(training: Resumable, uri: str | None, worker: Worker, *, seconds: float) -> Saving:
    """Takes up the state at `uri`, where there is one; the Saving that keeps it there. Without `uri` none is kept."""
    if uri is not None and storage.exists(uri):
        training.resume(uri)

    def save() -> None:
        if uri is not None:
            training.save(uri)

    return Saving(save, worker, seconds=seconds)


class Saving:
    """Use it as a context manager around the training, and `step` around each of its steps.

    `save` is called between steps only, where the state is whole; by the first worker only.
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
        """Raises KeyboardInterrupt after a step during which Ctrl-C, SIGTERM or the driver of a cluster asked to stop.

        Then `__exit__` saves.
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
