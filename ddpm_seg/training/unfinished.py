"""Taking up the saved state of a training, which may be damaged, or of something else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ddpm_seg import storage
from ddpm_seg.model.checkpoint_files import read_checkpoint, reason


class OtherTrainingError(ValueError):
    """A saved state is of other settings."""


@contextmanager
def taking_up(uri: str) -> Iterator[dict[str, Any]]:
    """The state that `torch.save` wrote at `uri`, for a block that takes it over.

    Raises ValueError that names the file where it cannot be read, and where the block does not find in it what it
    needs. OtherTrainingError passes as the block raises it.
    """
    # Not mapped: the next state is written in its place.
    state = read_checkpoint(uri, mapped=False)
    try:
        yield state
    except (OtherTrainingError, OSError):
        raise
    # Keys, types, shapes and lengths: what is foreign differs in any of them, and torch has its own exceptions.
    except Exception as error:
        raise ValueError(
            f"{storage.redact(uri)} is damaged, or not the state of this training ({type(error).__name__}: "
            f"{reason(error)}); delete it to start anew"
        ) from error
