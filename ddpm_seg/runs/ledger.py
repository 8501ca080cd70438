"""Finds out what an output already contains, from manifests and file names; reads no rows of published tables."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddpm_seg import storage
from ddpm_seg.runs.commit import chunk_folders, delete_chunks
from ddpm_seg.runs.layout import RunLayout, published_by_run, run_id, run_number, uris_under
from ddpm_seg.runs.manifest import (
    BATCH_ROWS,
    Manifest,
    RunInfo,
    check_items,
    create_manifest,
    manifest_named,
    read_info,
    read_manifest,
)
from ddpm_seg.runs.parquet import DamagedFileError, open_parquet
from ddpm_seg.runs.planned import PlannedRun
from ddpm_seg.runs.summary import read_json

logger = logging.getLogger(__name__)

READERS = 8  # manifests read at once, as a distant store's latency dominates

MANIFEST = "/manifest.parquet"

KEY: Any = pa.binary(24)
KEY_COLUMNS = ["image_id", "etag", "size_bytes", "modified"]


@dataclass(frozen=True, kw_only=True)
class KnownRun:
    """A run that has been planned. It is `finished` once its report, the last file written, exists."""

    layout: RunLayout
    info: RunInfo
    finished: bool

    @cached_property
    def manifest(self) -> Manifest:
        """The stored plan, read on first use: finished runs need not hold it in memory."""
        return read_manifest(self.layout.manifest)

    def planned(self, **stamp: str) -> PlannedRun:
        """The run bound to its plan. `stamp` has further columns whose value must be the same in every row."""
        own: dict[str, str | datetime] = {"config_hash": self.info.config_hash}
        if not is_compacted(self.layout):
            own |= {"run_id": self.info.run_id, "created_at": self.info.created_at}
        return PlannedRun(layout=self.layout, digest=self.manifest.digest, stamp={**own, **stamp})


def find_runs(output: str, table: str, config_hash: str) -> list[KnownRun]:
    """The runs of this configuration, oldest first."""
    return [run for run in all_runs(output, table) if run.info.config_hash == config_hash]


def all_runs(output: str, table: str) -> list[KnownRun]:
    """The runs of all configurations, oldest first; `table` is the one that they publish."""
    uris = uris_under(storage.join(output, "runs"))
    finished = _finished(uris)
    manifests = {number: uri for uri in uris if uri.endswith(MANIFEST) if (number := run_number(uri))}
    with ThreadPoolExecutor(READERS) as readers:
        infos = dict(zip(manifests, readers.map(read_info, manifests.values()), strict=True))
    return [
        KnownRun(
            layout=RunLayout(output=output, table=table, config_hash=info.config_hash, run_id=run_id(number)),
            info=info,
            finished=number in finished,
        )
        for number, info in sorted(infos.items())
    ]


def newest_options(output: str, having: str) -> Mapping[str, object]:
    """The options in the manifest of the newest run under `output` that has the option `having`; empty without one.

    For jobs whose defaults depend on what an output already contains.
    """
    numbers = {run_number(uri): uri for uri in uris_under(storage.join(output, "runs")) if uri.endswith(MANIFEST)}
    for number in sorted(filter(None, numbers), reverse=True):
        options = read_info(numbers[number]).config
        if having in options:
            return options
    return {}


def input_keys(items: pa.Table) -> pa.ChunkedArray[Any]:
    """A 24-byte key for each input's version: `name_key` of its id, then `version_key` of its etag, or of size and time
    if it has none."""
    batches = items.select(KEY_COLUMNS).to_batches(max_chunksize=BATCH_ROWS)
    return pa.chunked_array([pa.array(key_list(batch), KEY) for batch in batches], KEY)


def planned_keys(runs: list[KnownRun]) -> pa.ChunkedArray[Any]:
    """Keys (`input_keys`) of every input in a published shard of these runs, or planned in an unfinished one."""
    return pa.chunked_array([pa.array(key_list(rows), KEY) for rows in planned_inputs(runs, KEY_COLUMNS)], KEY)


def name_key(image_id: object) -> bytes:
    """The first 16 bytes of a key."""
    return hashlib.blake2b(str(image_id).encode(), digest_size=16).digest()


def version_key(version: str) -> bytes:
    """The last 8 bytes of a key: they need to tell only the versions of one image apart."""
    return hashlib.blake2b(version.encode(), digest_size=8).digest()


def key_list(batch: pa.RecordBatch | pa.Table) -> list[bytes]:
    """The keys (see `input_keys`) of a batch with KEY_COLUMNS."""
    # Hash row by row: comparing the columns in Arrow took as long and needed five times the memory.
    names, etags, sizes = (batch[name].to_pylist() for name in ("image_id", "etag", "size_bytes"))
    times = batch["modified"].cast(pa.int64()).to_pylist()  # microseconds
    rows = zip(names, etags, sizes, times, strict=True)
    return [name_key(name) + version_key(etag or f"{size} {time}") for name, etag, size, time in rows]


def planned_inputs(runs: list[KnownRun], columns: list[str]) -> Iterator[pa.RecordBatch]:
    """These columns of every input in a published shard of these runs, or planned in an unfinished one."""
    published = published_by_run(runs[0].layout) if any(run.finished for run in runs) else {}
    for run in runs:
        # If someone deleted a shard of a finished run, its images are to be done again.
        shards = list(published.get(run.layout.run_id, ())) if run.finished else None
        yield from _in_manifest(run.layout.manifest, shards, columns)


def next_number(output: str, config_hash: str, tables: Sequence[str]) -> int:
    """The number for the next run. Call this before `find_runs`: runs that it then misses have this number or more.

    The number is also larger than that of every shard in `tables` of this configuration: if someone deleted only
    `runs/`, the remaining shards must not be mistaken for the next run's. A warning names them.
    """
    planned = set(map(run_number, uris_under(storage.join(output, "runs"))))
    layouts = [RunLayout(output=output, table=table, config_hash=config_hash, run_id="") for table in tables]
    published = [set(map(run_number, uris_under(layout.configuration()))) for layout in layouts]
    _warn_of_stray_shards(layouts[0], sorted(filter(None, published[0] - planned)))  # derived tables follow the first
    return max(filter(None, planned.union(*published)), default=0) + 1


def _warn_of_stray_shards(layout: RunLayout, numbers: Sequence[int]) -> None:
    """Warns of shards of runs that `runs/` lacks. They are never deleted: they may be all that is left of the work."""
    if numbers:
        logger.warning(
            "%s has shards of %s, whose plans are no longer in runs/ (moved or deleted): their images are done again. "
            "read_labels shows the newer rows; a query of the files sees both until you delete these shards",
            layout.configuration(),
            ", ".join(map(run_id, numbers)),
        )


def is_compacted(layout: RunLayout) -> bool:
    """Whether `compact` wrote the run's files; their rows then keep the run ids that they had before."""
    try:
        return "compacted_from" in read_json(layout.run_json)
    except (FileNotFoundError, DamagedFileError):  # run.json is written again when the run is resumed
        return False


def freeze_run(output: str, table: str, manifest: Manifest, number: int) -> KnownRun | None:
    """Writes the manifest under the first free run number from `number` on, and sets its `info.run_id` to that.

    `number` is what `next_number` returned before the plan was made. Returns None if another driver has planned the
    same configuration since then: call `find_runs` again.
    """
    config_hash = manifest.info.config_hash
    while True:
        layout = RunLayout(output=output, table=table, config_hash=config_hash, run_id=run_id(number))
        info = replace(manifest.info, run_id=layout.run_id)
        if create_manifest(layout, replace(manifest, info=info)):
            return KnownRun(layout=layout, info=info, finished=False)
        if read_info(layout.manifest).config_hash == config_hash:
            return None
        number += 1


def delete_leftovers(output: str) -> None:
    """Deletes what dead drivers and workers left: temporary files, heartbeats of finished runs, and chunks of finished
    or unknown runs.

    Such files are normal: a run counts as finished before its heartbeat is deleted, and a worker that outlives its
    driver may write a chunk even later.
    """
    storage.delete_unfinished(output)
    heartbeats, chunks = leftovers(output)
    for uri in heartbeats:
        storage.delete(uri)
    for folder in chunks:
        delete_chunks(folder)


def leftovers(output: str) -> tuple[list[str], list[str]]:
    """URIs of the heartbeats of finished runs, and of the folders with chunks of finished or unknown runs."""
    folders = chunk_folders(output)  # list these before the manifests, which a run that starts now writes first
    uris = uris_under(storage.join(output, "runs"))
    finished = _finished(uris)
    planned = {number for uri in uris if uri.endswith(MANIFEST) if (number := run_number(uri))}
    at_work = {f"run={run_id(number)}" for number in planned - finished}
    heartbeats = [uri for uri in uris if uri.endswith("/heartbeat.json") and run_number(uri) in finished]
    dead = [folder for folder in folders if re.sub(r"(?<=\d)-[0-9a-f]+$", "", folder) not in at_work]
    return heartbeats, [storage.join(output, "_chunks", folder) for folder in sorted(dead)]


def _finished(uris: Iterable[str]) -> set[int]:
    return {number for uri in uris if uri.endswith("/report.html") if (number := run_number(uri))}


def _in_manifest(uri: str, shards: list[int] | None, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The manifest's rows, or only those in `shards`, one batch in memory at a time."""
    with manifest_named(uri), open_parquet(uri) as file:
        check_items(uri, file.schema_arrow)
        # Not all at once: Arrow would fetch the columns of all groups that it is asked for before it returns the first.
        for groups in _groups_at_once(file.metadata):
            for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=[*columns, "shard"]):
                yield batch if shards is None else batch.filter(pa.array(np.isin(batch["shard"].to_numpy(), shards)))


def _groups_at_once(about: pq.FileMetaData) -> Iterator[list[int]]:
    """Row groups to read together: each has BATCH_ROWS, but only a few hundred rows where an earlier release has
    rewritten the manifest."""
    groups, rows = list[int](), 0
    for group in range(about.num_row_groups):
        size = about.row_group(group).num_rows
        if groups and rows + size > BATCH_ROWS:
            yield groups
            groups, rows = [], 0
        groups, rows = [*groups, group], rows + size
    if groups:
        yield groups
