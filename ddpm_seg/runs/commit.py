"""From chunks to published shards. Every step may be repeated, by anyone, at any time, with the same result."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.local_storage import temporary_name
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.tables import decode, encode, open_parquet

logger = logging.getLogger(__name__)

Derive = Callable[[pa.Table], pa.Table]

_OUTCOME = ("status", "error_type")


def first_one_stays(output: str) -> bool:
    """Tries whether the store of `output` creates a file only if it is absent, which makes a published shard final."""
    probe = storage.join(output, temporary_name())
    try:
        storage.create_bytes(probe, b"the first one\n")
        return not storage.create_bytes(probe, b"the second one\n")
    finally:
        storage.delete(probe)


def write_chunk(layout: RunLayout, shard: int, chunk: int, rows: pa.Table) -> None:
    """The result of one chunk; where one stands already, that one stays."""
    storage.create_bytes(layout.chunk(shard, chunk), encode(rows))


def settle_shard(
    layout: RunLayout, shard: int, *, chunks: int, rows: int, derived: Mapping[str, Derive]
) -> dict[str, int]:
    """Publishes a shard whose chunks are all there, or takes it as published; then derived tables; then chunks go.

    Returns how many rows have which outcome: "ok", or the type of their error.
    """
    uri = layout.shard(shard)
    table = None
    if not storage.exists(uri):
        table = _merge(layout, shard, chunks, rows)
        if table is not None and not storage.create_bytes(uri, encode(table)):
            table = None  # the first one published is the commit, and stays
    for name, derive in derived.items():
        derived_uri = layout.shard(shard, name)
        if not storage.exists(derived_uri):
            table = decode(storage.read_bytes(uri)) if table is None else table
            storage.create_bytes(derived_uri, encode(derive(table)))
    delete_chunks(layout.shard_chunks(shard))
    return outcomes(table) if table is not None else read_outcomes(uri)


def delete_chunks(folder: str) -> None:
    """Deletes what was merged. It never fails: what stays, goes with the next run (`ledger.delete_leftovers`)."""
    try:
        storage.delete(folder)
    except OSError as error:  # a worker that outlived its driver is just writing there, for one
        logger.warning("%s: some chunks stay until the next run: %s", storage.redact(folder), error)


def outcomes(table: pa.Table) -> dict[str, int]:
    """Rows by outcome: "ok", or the type of their error."""
    status, error_type = (table[name].to_pylist() for name in _OUTCOME)
    counts = Counter(kind if state == "error" else state for state, kind in zip(status, error_type, strict=True))
    return dict(sorted(counts.items()))


def read_outcomes(uri: str) -> dict[str, int]:
    """`outcomes` of a shard or chunk. A resume asks every one, and masks would be most of what travels."""
    with open_parquet(uri) as file:
        return outcomes(file.read(columns=list(_OUTCOME)))


def _merge(layout: RunLayout, shard: int, chunks: int, rows: int) -> pa.Table | None:
    """The shard's rows in the manifest's order; None where another driver published it and took the chunks away."""
    try:
        parts = [decode(storage.read_bytes(layout.chunk(shard, chunk))) for chunk in range(chunks)]
    except FileNotFoundError:
        if storage.exists(layout.shard(shard)):
            return None
        raise
    table = pa.concat_tables(parts)
    if table.num_rows != rows:
        raise ValueError(
            f"shard {shard} of {layout.run_id} has {table.num_rows} rows in its chunks where the manifest has {rows}; "
            f"delete {storage.redact(layout.shard_chunks(shard))} and run the job again"
        )
    return table
