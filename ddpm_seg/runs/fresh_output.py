"""Outputs that are written in one go, into an empty place; an interrupted one is started over."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from ddpm_seg import storage
from ddpm_seg.runs.layout import uris_under

MARK = "ddpm_seg-unfinished"
"""Name of the file that marks an output as incomplete."""


@contextmanager
def fresh_output(output: str) -> Iterator[str]:
    """Gives the block an empty `output`, marked as incomplete until the block succeeds.

    Files beside such a mark were left by an interrupted block and are deleted first. Raises ValueError if the output
    has any other files, or if another process takes it over meanwhile, and OSError if it is not writable.
    """
    storage.check_writable(output)
    mark = storage.join(output, MARK)
    left = uris_under(output)
    if left and mark not in left:
        raise ValueError(f"--output {output} is not empty; choose an empty prefix")
    for file in left:
        if file != mark:  # the mark is deleted last, so that an interruption here is noticed too
            storage.delete(file)
    own = uuid.uuid4().bytes
    storage.write_bytes(mark, own)
    yield output
    if not storage.exists(mark) or storage.read_bytes(mark) != own:  # another process has deleted what this one wrote
        raise ValueError(
            f"another process has started {storage.redact(output)} over meanwhile: let it finish, or run its command "
            "again if it was interrupted"
        )
    storage.delete(mark)


def refuse_unfinished(output: str) -> None:
    """Raises ValueError if a block of `fresh_output` was interrupted in `output`, or is still at work there."""
    if why := incompleteness(output):
        raise ValueError(why)


def incompleteness(output: str) -> str:
    """Why `output` is not to be used yet, for people; "" if it may be."""
    if not storage.exists(storage.join(output, MARK)):
        return ""
    return (
        f"{storage.redact(output)} is incomplete: the ddpm-seg compact, export or convert that writes it was "
        "interrupted, or is still running. Let the same command finish there first (it deletes what is in an "
        "incomplete output and starts over)"
    )
