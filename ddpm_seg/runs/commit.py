"""Turns chunks into published shards. Any process may repeat any step at any time, with the same result.

File names are not trusted: chunks, published shards and derived tables are compared with the plan, and what does not
match is made again.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ddpm_seg import storage
from ddpm_seg.runs.layout import uris_under
from ddpm_seg.runs.manifest import Manifest
from ddpm_seg.runs.parquet import DamagedFileError, decode, encode, open_parquet, read_columns, read_table
from ddpm_seg.runs.planned import OUTCOME, PlannedRun, RunLostError

logger = logging.getLogger(__name__)

Derive = Callable[[pa.Table], pa.Table]
"""Turns a table, without its picture columns, into a derived table."""

# After this many attempts to publish a shard that another process keeps replacing, give up.
MOST_TRIES = 3

SET_ASIDE = "_set_aside"
"""Folder of an output for published shards that turned out not to belong to the run in their path."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlan:
    """What a shard must contain: the image ids of each of its chunks, in order."""

    run: PlannedRun
    shard: int
    chunks: list[list[str]]
    container: str = ""
    """If all images are in one container, the id of the row that says why it could not be read on, in place of chunks
    that are then missing. It comes last."""

    @classmethod
    def of(cls, run: PlannedRun, manifest: Manifest, shard: int, chunks: Sequence[slice]) -> ShardPlan:
        """`chunks` are the manifest's row ranges of the shard's chunks (see `Manifest.shard_rows`)."""
        names: Any = manifest.items["image_id"]
        return cls(run=run, shard=shard, chunks=[names[rows].to_pylist() for rows in chunks])

    @property
    def image_ids(self) -> list[str]:
        return [name for chunk in self.chunks for name in chunk]

    def misfit(self, rows: pa.Table, chunk: int) -> str | None:
        """Why `rows` are not those of a chunk; None if they are, or are the container's one row."""
        replaced = self.container and rows.num_rows == 1 and _names(rows) == [self.container]
        return self.run.misfit(rows, [self.container] if replaced else self.chunks[chunk])

    def misfit_of_shard(self, rows: pa.Table) -> str | None:
        """Why `rows` are not those of the whole shard; None if they are."""
        held = set(_names(rows)) if self.container else set()
        if self.image_ids == [self.container]:
            # The container was looked into again, and is gone or damaged by now: what it held then is worth keeping.
            return self.run.misfit(rows, _names(rows))
        if self.container not in held:
            return self.run.misfit(rows, self.image_ids)
        chunks = [[name for name in chunk if name != self.container] for chunk in self.chunks]
        rest = [name for chunk in chunks if chunk and chunk[0] in held for name in chunk]
        return self.run.misfit(rows, [*rest, self.container])


@dataclass(frozen=True, kw_only=True, slots=True)
class Settled:
    """Either the `outcomes` of a published shard, or in `redo` the chunks to make before it can be published."""

    outcomes: Mapping[str, int]
    redo: tuple[int, ...] = ()


def first_one_stays(output: str) -> bool:
    """Tests whether the store of `output` can create a file only if absent, which makes published shards final."""
    probe = storage.join(output, storage.temporary_name())
    try:
        storage.create_bytes(probe, b"the first one\n")
        return not storage.create_bytes(probe, b"the second one\n")
    finally:
        storage.delete(probe)


def write_chunk(run: PlannedRun, shard: int, chunk: int, rows: pa.Table) -> None:
    """Writes the file of one chunk. Keeps an existing file with the same rows; replaces any other.

    Raises RunLostError if the run's plan no longer exists.
    """
    run.check()
    uri, data = run.chunk(shard, chunk), encode(rows)
    if storage.create_bytes(uri, data):
        return
    with suppress(DamagedFileError, FileNotFoundError), open_parquet(uri) as file:
        if file.schema_arrow.equals(rows.schema) and file.read(run.columns).equals(rows.select(run.columns)):
            return
    logger.warning("%s does not contain this chunk's rows; replacing it", uri)
    storage.write_bytes(uri, data)


def look_at_chunk(plan: ShardPlan, chunk: int) -> Mapping[str, int] | None:
    """The `outcomes` of a chunk that an earlier attempt left; None if it must be done again. Reads no masks."""
    uri = plan.run.chunk(plan.shard, chunk)
    try:
        rows = read_columns(uri, [*OUTCOME, *plan.run.columns])
        reason = plan.misfit(rows, chunk)
    except FileNotFoundError:  # an earlier driver's worker, still alive, has just published the shard
        return None
    except DamagedFileError as error:
        reason = error.reason
    if reason is None:
        return outcomes(rows)
    _warn_of_redo(uri, reason)
    return None


def settle_shard(plan: ShardPlan, derived: Mapping[str, Derive]) -> Settled:
    """Publishes a shard whose chunks are complete, if it is not yet; writes derived tables; deletes the chunks.

    A published shard with other rows than the plan's is moved aside. Raises RunLostError if the plan no longer exists,
    and DamagedFileError for a published shard that cannot be read.
    """
    layout = plan.run.layout
    uri = layout.shard(plan.shard)
    for _ in range(MOST_TRIES):
        table = _published(plan)
        if table is None:
            table, redo = _merge(plan)
            if table is None and not storage.exists(uri):
                return Settled(outcomes={}, redo=redo)
            if table is None or not _create(plan, table):
                continue  # another driver has published it and deleted the chunks
        for name, derive in derived.items():
            _settle_derived(layout.shard(plan.shard, name), derive(_without_pictures(table)))
        delete_chunks(plan.run.shard_chunks(plan.shard))
        return Settled(outcomes=outcomes(table))
    raise ValueError(
        f"{uri} was replaced {MOST_TRIES} times by rows of another run; stop the other process that writes there"
    )


def delete_chunks(folder: str) -> None:
    """Deletes merged chunks. Never raises: the next run deletes what remains (`ledger.delete_leftovers`)."""
    try:
        storage.delete(folder)
    except OSError as error:  # for example, an earlier driver's worker is writing there right now
        logger.warning("%s: some chunks could not be deleted; the next run deletes them: %s", folder, error)


def chunk_folders(output: str) -> set[str]:
    """Names of the folders with chunks: "run=run-000001-" and a plan's digest, or from earlier releases without it."""
    above = storage.join(output, "_chunks")
    return {uri[len(above) + 1 :].partition("/")[0] for uri in uris_under(above)}


def delete_other_chunks(run: PlannedRun) -> None:
    """Deletes chunks under the run's id that belong to another plan, or to an unknown one (from earlier releases)."""
    name, own = f"run={run.layout.run_id}", run.chunks.rpartition("/")[2]
    for folder in chunk_folders(run.layout.output):
        if folder != own and (folder == name or folder.startswith(f"{name}-")):
            logger.warning("%s: deleting chunks of another plan (%s)", run.layout.run_id, folder)
            delete_chunks(storage.join(run.layout.chunks, folder))


def outcomes(table: pa.Table) -> dict[str, int]:
    """Number of rows per outcome: "ok", or an error type."""
    status, error_type = (table[name].to_pylist() for name in OUTCOME)
    counts: Counter[Any] = Counter(
        kind if state == "error" else state for state, kind in zip(status, error_type, strict=True)
    )
    return dict(sorted(counts.items()))


def _published(plan: ShardPlan) -> pa.Table | None:
    """The published shard without its pictures; None if there is none, or if it was moved aside as another run's."""
    uri = plan.run.layout.shard(plan.shard)
    try:
        with open_parquet(uri) as file:
            rows = file.read(columns=_no_pictures(file.schema_arrow))
    except FileNotFoundError:
        return None
    except DamagedFileError as error:
        raise DamagedFileError(uri, error.reason, "delete it, then run the same command again") from error
    reason = plan.misfit_of_shard(rows)
    if reason is None:
        return rows
    aside = storage.join(plan.run.layout.output, SET_ASIDE, uri.removeprefix(plan.run.layout.output).lstrip("/"))
    told = uri, reason, aside
    logger.warning("%s does not belong to this run (%s): moving it to %s and making it again", *told)
    plan.run.check()
    storage.write_bytes(aside, storage.read_bytes(uri))
    storage.delete(uri)
    return None


def _merge(plan: ShardPlan) -> tuple[pa.Table | None, tuple[int, ...]]:
    """The shard's rows in the plan's order; or None and the chunks that are missing, unreadable or another plan's."""
    parts, redo = [], []
    for chunk in range(len(plan.chunks)):
        uri = plan.run.chunk(plan.shard, chunk)
        try:
            rows = read_table(uri)
            reason = plan.misfit(rows, chunk)
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
    return (None, tuple(redo)) if redo else (_container_last(pa.concat_tables(parts), plan.container), ())


def _container_last(rows: pa.Table, container: str) -> pa.Table:
    """The rows with only the first of those about the container, at the end."""
    about = pc.equal(rows["image_id"], container)
    if not container or not pc.any(about).as_py():
        return rows
    return pa.concat_tables([rows.filter(pc.invert(about)), rows.filter(about).slice(0, 1)])


def _names(rows: pa.Table) -> list[Any]:
    return rows["image_id"].to_pylist() if "image_id" in rows.column_names else []


def _create(plan: ShardPlan, table: pa.Table) -> bool:
    """Publishes the shard; False if one exists already: the first one published is the commit, and stays."""
    uri, data = plan.run.layout.shard(plan.shard), encode(table)
    plan.run.check()
    if not storage.create_bytes(uri, data):
        return False
    try:
        plan.run.check()
    except RunLostError:  # the plan has just disappeared: without it, these rows would belong to no known run
        storage.delete(uri)
        raise
    return True


def _settle_derived(uri: str, rows: pa.Table) -> None:
    """Makes sure that the derived table at `uri` has exactly these rows."""
    if not storage.exists(uri) and storage.create_bytes(uri, encode(rows)):
        return
    try:
        if _same(read_table(uri), rows):
            return
        reason = "it has other rows"
    except (FileNotFoundError, DamagedFileError) as error:
        reason = error.reason if isinstance(error, DamagedFileError) else "it is gone"
    logger.warning("%s does not match the published shard (%s); making it again", uri, reason)
    storage.write_bytes(uri, encode(rows))


def _same(stored: pa.Table, rows: pa.Table) -> bool:
    """Whether a stored table equals `rows`. If Arrow says no, compares bytes: to Arrow, NaN differs from itself."""
    if stored.equals(rows):
        return stored.schema.metadata == rows.schema.metadata
    return encode(stored) == encode(decode(encode(rows)))


def _no_pictures(schema: pa.Schema) -> list[str]:
    """Names of all columns except pictures, which would dominate the traffic."""
    return [field.name for field in schema if not pa.types.is_struct(field.type) and not pa.types.is_binary(field.type)]


def _without_pictures(table: pa.Table) -> pa.Table:
    return table.select(_no_pictures(table.schema))


def _warn_of_redo(uri: str, reason: str) -> None:
    logger.warning("doing %s again: %s", uri, reason)
