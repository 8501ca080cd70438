"""Many small shards of many nights to a few large ones, in a place of their own; the old ones stay as they are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import numpy as np
import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.runs.commit import Derive, outcomes
from ddpm_seg.runs.fresh_output import fresh_output
from ddpm_seg.runs.layout import RunLayout, layout_of
from ddpm_seg.runs.manifest import Manifest, create_manifest, read_info, read_manifest
from ddpm_seg.runs.summary import RunSummary, write_run_json, write_summary
from ddpm_seg.runs.tables import decode, encode
from ddpm_seg.runs.view import current_rows

# A file is closed at this size even where it has fewer rows than asked for: it is in memory twice while it is written.
SHARD_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class CompactConfig:
    """Which tables, where to write them anew, and how large the files are to be."""

    labels: str
    """Output of jobs.label: the folder or prefix with labels/ and runs/."""
    output: str
    """Folder or prefix for the compacted tables: an empty one."""
    config_hash: str | None = None
    """Whose rows, where several models or options are under --labels; by default those of the newest run."""
    shard_size: int = 20_000
    """Rows in each new file; fewer where they would be more than 256 MB."""

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise ValueError(f"--shard-size is {self.shard_size}, expected at least 1")
        source, target = (storage.normalize(uri).rstrip("/") + "/" for uri in (self.labels, self.output))
        if target.startswith(source) or source.startswith(target):
            raise ValueError(
                f"--output {storage.redact(self.output)} and --labels {storage.redact(self.labels)} must not be one "
                "inside the other; take a prefix beside it"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Compacted:
    layout: RunLayout
    files_before: int
    files: int
    rows_before: int
    rows: int


def compact(
    config: CompactConfig, derived: Mapping[str, Derive], write_report: Callable[[RunLayout], object]
) -> Compacted:
    """Writes the current rows (`view.read_labels`) of one output to another, in order of run and shard.

    Rows stay as they are, their `run_id` too; their files stand under the newest run's name, with the inputs that they
    are of as its manifest, so that `jobs.label` may go on there. Raises FileNotFoundError where nothing was published,
    and ValueError for an output that holds something.
    """
    source = storage.normalize(config.labels)
    shards = current_rows(source, "labels", config_hash=config.config_hash)
    with fresh_output(config.output) as output:
        done = _write(shards, output, derived, config.shard_size)
        write_report(done.layout)  # which marks the run as finished
    return done


def _write(
    shards: list[tuple[str, np.ndarray]], output: str, derived: Mapping[str, Derive], shard_size: int
) -> Compacted:
    newest, started = layout_of(shards[-1][0]), datetime.now(timezone.utc)
    layout = replace(newest, output=output)
    info, record = read_info(newest.manifest), json.loads(storage.read_bytes(newest.run_json))
    write_run_json(layout, info, {**record, "compacted_from": storage.redact(newest.output)})
    writer = _Writer(layout, derived, shard_size)
    for rows, items in _rows_and_inputs(shards):
        writer.add(rows, items)
    writer.flush()
    create_manifest(layout, Manifest(info=info, items=pa.concat_tables(writer.planned)))
    write_summary(layout, writer.summary(started))
    return Compacted(
        layout=layout,
        files_before=len(shards),
        files=len(writer.planned),
        rows_before=sum(len(kept) for _, kept in shards),
        rows=writer.counts.total(),
    )


def _rows_and_inputs(shards: list[tuple[str, np.ndarray]]) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Of each shard the current rows, and what its manifest says of the same inputs."""
    manifest, of_run = None, ""
    for uri, kept in shards:
        if not kept.any():
            continue
        layout = layout_of(uri)
        if manifest is None or layout.run_id != of_run:
            manifest, of_run = read_manifest(layout.manifest), layout.run_id
        rows = decode(storage.read_bytes(uri))
        shard = int(uri.rpartition("-")[2].removesuffix(".parquet"))
        items = manifest.items.filter(pa.array(manifest.items["shard"].to_numpy() == shard))
        if items["image_id"] != rows["image_id"]:
            raise ValueError(f"{storage.redact(uri)} does not hold what {storage.redact(layout.manifest)} planned")
        mask = pa.array(kept)
        yield rows.filter(mask), items.filter(mask)


class _Writer:
    """Rows to files of about one size, each with its derived tables; `planned` has their manifest's rows."""

    def __init__(self, layout: RunLayout, derived: Mapping[str, Derive], shard_size: int) -> None:
        self.layout, self.derived, self.shard_size = layout, derived, shard_size
        self.planned: list[pa.Table] = []
        self.counts = Counter[str]()
        self._rows: list[pa.Table] = []
        self._items: list[pa.Table] = []

    def add(self, rows: pa.Table, items: pa.Table) -> None:
        while rows.num_rows:
            room = self.shard_size - sum(part.num_rows for part in self._rows)
            self._rows.append(rows.slice(0, room))
            self._items.append(items.slice(0, room))
            rows, items = rows.slice(room), items.slice(room)
            full = sum(part.num_rows for part in self._rows) == self.shard_size
            if full or sum(part.get_total_buffer_size() for part in self._rows) >= SHARD_BYTES:
                self.flush()

    def flush(self) -> None:
        """Writes what has come since the last file."""
        if not self._rows:
            return
        shard, table = len(self.planned), pa.concat_tables(self._rows)
        storage.write_bytes(self.layout.shard(shard), encode(table))
        for name, derive in self.derived.items():
            storage.write_bytes(self.layout.shard(shard, name), encode(derive(table)))
        self.counts.update(outcomes(table))
        items = pa.concat_tables(self._items).drop_columns(["shard", "chunk"])
        numbers = {"shard": shard, "chunk": 0}
        for name, number in numbers.items():
            items = items.append_column(name, pa.array(np.full(items.num_rows, number, np.int32)))
        self.planned.append(items)
        self._rows, self._items = [], []

    def summary(self, started: datetime) -> RunSummary:
        return RunSummary(
            run_id=self.layout.run_id,
            config_hash=self.layout.config_hash,
            images=self.counts.total(),
            ok=self.counts["ok"],
            errors={kind: number for kind, number in sorted(self.counts.items()) if kind != "ok"},
            shards=len(self.planned),
            started_at=started,
            finished_at=datetime.now(timezone.utc),
            timed_images=0,
            images_per_hour=None,
            seconds={},
        )
