"""Writes and restores the saved state of an unfinished training."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from ddpm_seg import storage
from ddpm_seg.model.published.state_dicts import read_checkpoint, reason


class OtherTrainingError(ValueError):
    """A saved state was made with other settings."""


def write_state(uri: str, state: Mapping[str, Any]) -> None:
    """Writes tensors and plain values with `torch.save`, atomically."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    storage.write_bytes(uri, buffer.getvalue())


def refuse_other_settings(uri: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises OtherTrainingError if a setting in `now` differs from `before`, the settings of the state at `uri`."""
    for name, value in now.items():
        if before.get(name) != value:
            raise OtherTrainingError(
                f"the interrupted training at {uri} has {name} = {before.get(name)}, not {value}; use "
                "its settings, or delete it to start anew"
            )


@contextmanager
def restoring(uri: str) -> Iterator[dict[str, Any]]:
    """Yields the state that `torch.save` wrote at `uri`, for the block to restore.

    Raises ValueError, naming the file, if it cannot be read or lacks something that the block needs. An
    OtherTrainingError raised by the block passes through.
    """
    # Not memory-mapped: the next save replaces this file.
    state = read_checkpoint(uri, mapped=False)
    try:
        yield state
    except (OtherTrainingError, OSError):
        raise
    # A foreign file may fail on keys, types, shapes or lengths, and torch raises its own exceptions.
    except Exception as error:
        raise ValueError(
            f"{uri} is damaged, or not the state of this training ({type(error).__name__}: "
            f"{reason(error)}); delete it to start anew"
        ) from error
