"""Makes log lines of workers say which run, shard and chunk they are about."""

from __future__ import annotations

import logging

from ddpm_seg.printable import PrintableFormatter

_HANDLER = logging.StreamHandler()


def place(run_id: str, shard: int, chunk: int) -> str:
    """The name of a chunk in log lines and messages, spelled like its file name."""
    return f"{run_id} shard-{shard:05d} chunk-{chunk:04d}"


def log_as(run_id: str, shard: int, chunk: int) -> None:
    """From now on, prefixes this process's log messages of this package with the chunk's name, on stderr.

    Ray forwards them to the driver's log. A worker process does one chunk at a time, perhaps in several threads, so the
    name is set per process.
    """
    where = place(run_id, shard, chunk)
    _HANDLER.setFormatter(PrintableFormatter(f"%(asctime)s {where}: %(message)s", "%H:%M:%S"))
    logger = logging.getLogger("ddpm_seg")
    if _HANDLER not in logger.handlers:
        logger.addHandler(_HANDLER)
        logger.propagate = False
