"""Log lines of workers: each says which run, shard and chunk it is about."""

from __future__ import annotations

import logging

from ddpm_seg.printable import PrintableFormatter

_HANDLER = logging.StreamHandler()


def place(run_id: str, shard: int, chunk: int) -> str:
    """The name of a chunk in log lines and messages, as its files have it."""
    return f"{run_id} shard-{shard:05d} chunk-{chunk:04d}"


def log_as(run_id: str, shard: int, chunk: int) -> None:
    """From now on this process logs the package's messages under the name of this chunk, on stderr.

    Ray sends them to the driver's log. A worker does one chunk at a time, with threads of its own, so the process is
    what has a place.
    """
    where = place(run_id, shard, chunk)
    _HANDLER.setFormatter(PrintableFormatter(f"%(asctime)s {where}: %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("ddpm_seg")
    if _HANDLER not in logger.handlers:
        logger.addHandler(_HANDLER)
        logger.propagate = False
