"""The saved state of a training: writing it, and taking it up, though it may be damaged or of something else."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ddpm_seg import storage
from ddpm_seg.model.published.state_dicts import read_checkpoint, reason


class OtherTrainingError(ValueError):
    """A saved state is of other settings."""


def write_state(uri: str, state: Mapping[str, Any]) -> None:
    """Writes tensors and plain values with `torch.save`, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    storage.write_bytes(uri, buffer.getvalue())


def refuse_other_settings(uri: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises OtherTrainingError where the state at `uri` was trained with other settings `before` than `now`."""
    for name, value in now.items():
        if before.get(name) != value:
            raise OtherTrainingError(
                f"the interrupted training at {uri} has {name} = {before.get(name)}, not {value}; use "
                "its settings, or delete it to start anew"
            )


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
            f"{uri} is damaged, or not the state of this training ({type(error).__name__}: "
            f"{reason(error)}); delete it to start anew"
        ) from error
