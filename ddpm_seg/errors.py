"""Errors that end work after it has begun. Any package may raise them, and every job turns them into an exit status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class StageError(RuntimeError):
    """Work failed, and neither an image nor an option is the cause. Finished work is kept; the run can be resumed."""


class TooManyErrors(RuntimeError):  # noqa: N818
    """More images of a run have errors than allowed. Finished work is kept; a higher limit lets the run be resumed."""


class TrainingDiverged(RuntimeError):  # noqa: N818
    """The loss is not a finite number; the same command would end the same way. Saved state is kept."""


@contextmanager
def work_began() -> Iterator[None]:
    """Turns an OSError inside the block into a StageError.

    Before work begins, an OSError means that an input or output cannot be used (exit status 2). Later, both have worked
    already, so the disk is full or the storage went away (exit status 4, resumable).
    """
    try:
        yield
    except OSError as error:
        raise StageError(str(error)) from error
