"""Says which disk is full when the folder for temporary files is."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import gettempdir


@contextmanager
def space_named(what: str) -> Iterator[None]:
    """If the disk is full, raises an OSError that names the folder for temporary files, and `what` was written there.
    Python's own error names neither."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise OSError(
            errno.ENOSPC, f"no space left for {what} in {gettempdir()}; set TMPDIR to a folder on a larger disk"
        ) from None
