"""From chunks to published shards. Every step may be repeated, by anyone, at any time, with the same result.

Nothing is taken for what its name says: chunks, published shards and derived tables are compared with the plan, and
what does not fit it, is made again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.runs.layout import uris_under
from ddpm_seg.runs.manifest import Manifest
from ddpm_seg.runs.parquet import DamagedFileError, decode, encode, open_parquet, read_columns, read_table
from ddpm_seg.runs.planned import OUTCOME, PlannedRun, RunLostError

logger = logging.getLogger(__name__)

Derive = Callable[[pa.Table], pa.Table]
"""Rows of a table, without their pictures, to rows of a derived one."""

# A shard that others keep replacing is somebody's work, and no accident.
MOST_TRIES = 3

SET_ASIDE = "_set_aside"
"""The folder of an output for published shards that turned out not to be of the run whose name they had."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlan:
    """What a shard is to hold: of each of its chunks, in order, the image ids."""

    run: PlannedRun
    shard: int
    chunks: list[list[str]]

    @classmethod
    def of(cls, run: PlannedRun, manifest: Manifest, shard: int, chunks: Sequence[slice]) -> ShardPlan:
        """`chunks` are the manifest's rows of each (`Manifest.shard_rows`)."""
        names: Any = manifest.items["image_id"]
        return cls(run=run, shard=shard, chunks=[names[rows].to_pylist() for rows in chunks])

    @property
    def image_ids(self) -> list[str]:
        return [name for chunk in self.chunks for name in chunk]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """`outcomes` of a shard that is published; or `redo`, the chunks that must be made (again) before it can be."""

    outcomes: Mapping[str, int]
    redo: tuple[int, ...] = ()


def first_one_stays(output: str) -> bool:
    """Tries whether the store of `output` creates a file only if it is absent, which makes a published shard final."""
    probe = storage.join(output, storage.temporary_name())
    try:
        storage.create_bytes(probe, b"the first one\n")
        return not storage.create_bytes(probe, b"the second one\n")
    finally:
        storage.delete(probe)


def write_chunk(run: PlannedRun, shard: int, chunk: int, rows: pa.Table) -> None:
    """The result of one chunk. Where one with the same rows stands already, that one stays; anything else is replaced.

    Raises RunLostError where the plan that the work was done for is not there any more.
    """
    run.check()
    uri, data = run.chunk(shard, chunk), encode(rows)
    if storage.create_bytes(uri, data):
        return
    with suppress(DamagedFileError, FileNotFoundError), open_parquet(uri) as file:
        if file.schema_arrow.equals(rows.schema) and file.read(run.columns).equals(rows.select(run.columns)):
            return
    logger.warning("%s did not hold this chunk's rows, and is replaced", uri)
    storage.write_bytes(uri, data)


def look_at_chunk(plan: ShardPlan, chunk: int) -> Mapping[str, int] | None:
    """`outcomes` of a chunk that an earlier attempt left; None where it must be done again. No mask is read."""
    uri = plan.run.chunk(plan.shard, chunk)
    try:
        rows = read_columns(uri, [*OUTCOME, *plan.run.columns])
        reason = plan.run.misfit(rows, plan.chunks[chunk])
    except FileNotFoundError:  # a worker that outlived its driver has just published the shard
        return None
    except DamagedFileError as error:
        reason = error.reason
    if reason is None:
        return outcomes(rows)
    _warn_of_redo(uri, reason)
    return None


def settle_shard(plan: ShardPlan, derived: Mapping[str, Derive]) -> Settled:
    """Publishes a shard whose chunks are all there, or takes it as published; then derived tables; then chunks go.

    A published shard with other rows than the plan's is set aside. Raises RunLostError where the plan is not there any
    more, and DamagedFileError for a published shard that cannot be read.
    """
    layout = plan.run.layout
    uri = layout.shard(plan.shard)
    for _ in range(MOST_TRIES):
        table = _standing(plan)
        if table is None:
            table, redo = _merge(plan)
            if table is None and not storage.exists(uri):
                return Settled(outcomes={}, redo=redo)
            if table is None or not _create(plan, table):
                continue  # another driver has published it, and taken the chunks away
        for name, derive in derived.items():
            _settle_derived(layout.shard(plan.shard, name), derive(_without_pictures(table)))
        delete_chunks(plan.run.shard_chunks(plan.shard))
        return Settled(outcomes=outcomes(table))
    raise ValueError(f"{uri} was replaced {MOST_TRIES} times by rows of another run; who writes there?")


def delete_chunks(folder: str) -> None:
    """Deletes what was merged. It never fails: what stays, goes with the next run (`ledger.delete_leftovers`)."""
    try:
        storage.delete(folder)
    except OSError as error:  # a worker that outlived its driver is just writing there, for one
        logger.warning("%s: some chunks stay until the next run: %s", folder, error)


def chunk_folders(output: str) -> set[str]:
    """Names of the folders that hold chunks: "run=run-000001-" and the digest of a plan; without it, of a release
    before."""
    above = storage.join(output, "_chunks")
    return {uri[len(above) + 1 :].partition("/")[0] for uri in uris_under(above)}


def delete_other_chunks(run: PlannedRun) -> None:
    """Deletes chunks under the run's id that are of another plan, or of a release that did not say of which."""
    name, own = f"run={run.layout.run_id}", run.chunks.rpartition("/")[2]
    for folder in chunk_folders(run.layout.output):
        if folder != own and (folder == name or folder.startswith(f"{name}-")):
            logger.warning("%s: chunks of another plan (%s) are deleted", run.layout.run_id, folder)
            delete_chunks(storage.join(run.layout.chunks, folder))


def outcomes(table: pa.Table) -> dict[str, int]:
    """Rows by outcome: "ok", or the type of their error."""
    status, error_type = (table[name].to_pylist() for name in OUTCOME)
    counts: Counter[Any] = Counter(
        kind if state == "error" else state for state, kind in zip(status, error_type, strict=True)
    )
    return dict(sorted(counts.items()))


def _standing(plan: ShardPlan) -> pa.Table | None:
    """The published shard without its pictures; None where none stands, or one that had to be set aside."""
    uri = plan.run.layout.shard(plan.shard)
    try:
        with open_parquet(uri) as file:
            rows = file.read(columns=_no_pictures(file.schema_arrow))
    except FileNotFoundError:
        return None
    except DamagedFileError as error:
        raise DamagedFileError(uri, error.reason, "delete it, and the same command does its images again") from error
    reason = plan.run.misfit(rows, plan.image_ids)
    if reason is None:
        return rows
    aside = storage.join(plan.run.layout.output, SET_ASIDE, uri.removeprefix(plan.run.layout.output).lstrip("/"))
    told = uri, reason, aside
    logger.warning("%s is not of this run (%s): it is moved to %s, and made again", *told)
    plan.run.check()
    storage.write_bytes(aside, storage.read_bytes(uri))
    storage.delete(uri)
    return None


def _merge(plan: ShardPlan) -> tuple[pa.Table | None, tuple[int, ...]]:
    """The shard's rows in the plan's order; or None and the chunks that are not there, unreadable or not of it."""
    parts, redo = [], []
    for chunk, image_ids in enumerate(plan.chunks):
        uri = plan.run.chunk(plan.shard, chunk)
        try:
            rows = read_table(uri)
            reason = plan.run.misfit(rows, image_ids)
        except (FileNotFoundError, DamagedFileError) as error:
            reason = error.reason if isinstance(error, DamagedFileError) else "it is gone"
        if reason is None:
            parts.append(rows)
        else:
            redo.append(chunk)
            _warn_of_redo(uri, reason)
    if not redo and any(part.schema != parts[0].schema for part in parts):
        _warn_of_redo(plan.run.shard_chunks(plan.shard), "its chunks have different columns")
        redo = list(range(len(plan.chunks)))
    return (None, tuple(redo)) if redo else (pa.concat_tables(parts), ())


def _create(plan: ShardPlan, table: pa.Table) -> bool:
    """Publishes; False where a shard stands already: the first one published is the commit, and stays."""
    uri, data = plan.run.layout.shard(plan.shard), encode(table)
    plan.run.check()
    if not storage.create_bytes(uri, data):
        return False
    try:
        plan.run.check()
    except RunLostError:  # it went away in that very moment, and nobody would know whose rows these are
        storage.delete(uri)
        raise
    return True


def _settle_derived(uri: str, rows: pa.Table) -> None:
    """Makes sure that a derived table holds these rows."""
    if not storage.exists(uri) and storage.create_bytes(uri, encode(rows)):
        return
    try:
        if _same(read_table(uri), rows):
            return
        reason = "it holds other rows"
    except (FileNotFoundError, DamagedFileError) as error:
        reason = error.reason if isinstance(error, DamagedFileError) else "it is gone"
    logger.warning("%s is not of the shard that stands (%s), and is made again", uri, reason)
    storage.write_bytes(uri, encode(rows))


def _same(stored: pa.Table, rows: pa.Table) -> bool:
    """Whether a stored table holds `rows`. To Arrow NaN differs from itself; its bytes do not."""
    if stored.equals(rows):
        return stored.schema.metadata == rows.schema.metadata
    return encode(stored) == encode(decode(encode(rows)))


def _no_pictures(schema: pa.Schema) -> list[str]:
    """Columns but those that hold files, which would be most of what travels."""
    return [field.name for field in schema if not pa.types.is_struct(field.type) and not pa.types.is_binary(field.type)]


def _without_pictures(table: pa.Table) -> pa.Table:
    return table.select(_no_pictures(table.schema))


def _warn_of_redo(uri: str, reason: str) -> None:
    logger.warning("%s is done again: %s", uri, reason)
