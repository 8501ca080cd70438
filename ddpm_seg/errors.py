"""How work that has begun ends before its time: errors that every part of the product raises and every job knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class StageError(RuntimeError):
    """Work failed in a way that no image and no option is to blame for. What is done is kept; the run can go on."""


class TooManyErrors(RuntimeError):  # noqa: N818
    """More images of a run are errors than were allowed. What is done is kept; under a higher limit it can go on."""


class TrainingDiverged(RuntimeError):  # noqa: N818
    """A loss is not a finite number: the same command would end the same way. What was saved before stays."""


@contextmanager
def work_began() -> Iterator[None]:
    """Turns an OSError into a StageError.

    Before work begins, an OSError means that an input or an output cannot be used. Afterwards both have been used
    already, and what fails is a disk that is full or storage that went away.
    """
    try:
        yield
    except OSError as error:
        raise StageError(str(error)) from error
