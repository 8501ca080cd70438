"""An output that is written as a whole: where nothing was before, and begun anew where it was interrupted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ddpm_seg import storage
from ddpm_seg.runs.layout import uris_under

MARK = "ddpm_seg-unfinished"
"""The file that stands under an output until it is whole."""


@contextmanager
def fresh_output(output: str) -> Iterator[str]:
    """For the block, `output` with nothing under it but a mark, which goes when the block succeeds.

    What stands there with a mark was left by a block that did not end, and goes first. Raises ValueError where anything
    else stands, OSError where it is not writable.
    """
    storage.check_writable(output)
    mark = storage.join(output, MARK)
    left = uris_under(output)
    if left and mark not in left:
        raise ValueError(f"--output {output} is not empty; take a prefix where nothing is yet")
    for file in left:
        if file != mark:  # it goes last, so that an interruption here is known too
            storage.delete(file)
    storage.write_bytes(mark, b"")
    yield output
    storage.delete(mark)
