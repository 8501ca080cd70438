"""Writes rows to a run's shards in one go, without chunks: for work that is not shared out to a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timezone

import numpy as np
import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.runs.commit import Derive, outcomes
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.parquet import encode
from ddpm_seg.runs.summary import RunSummary

# Maximum size of a new file, even if it then has fewer rows than asked for: it is in memory twice while written.
SHARD_BYTES = 256 * 1024 * 1024


class ShardWriter:
    """Writes rows to files of about equal size, with derived tables; collects the manifest's rows in `planned`."""

    def __init__(self, layout: RunLayout, derived: Mapping[str, Derive], shard_size: int) -> None:
        self.layout, self.derived, self.shard_size = layout, derived, shard_size
        self.planned: list[pa.Table] = []
        self.counts = Counter[str]()
        self._rows: list[pa.Table] = []
        self._items: list[pa.Table] = []

    def add(self, rows: pa.Table, items: pa.Table) -> None:
        """Adds `rows` of the table, and the manifest's rows `items` for the same inputs, in the same order."""
        while rows.num_rows:
            room = self.shard_size - sum(part.num_rows for part in self._rows)
            self._rows.append(rows.slice(0, room))
            self._items.append(items.slice(0, room))
            rows, items = rows.slice(room), items.slice(room)
            full = sum(part.num_rows for part in self._rows) == self.shard_size
            if full or sum(part.get_total_buffer_size() for part in self._rows) >= SHARD_BYTES:
                self.flush()

    def flush(self) -> None:
        """Writes the rows added since the last file as a new file, if there are any."""
        if not self._rows:
            return
        shard, table = len(self.planned), pa.concat_tables(self._rows)
        storage.write_bytes(self.layout.shard(shard), encode(table))
        for name, derive in self.derived.items():
            storage.write_bytes(self.layout.shard(shard, name), encode(derive(table)))
        self.counts.update(outcomes(table))
        items = pa.concat_tables(self._items)
        for name, number in {"shard": shard, "chunk": 0}.items():
            items = items.append_column(name, pa.array(np.full(items.num_rows, number, np.int32)))
        self.planned.append(items)
        self._rows, self._items = [], []

    def summary(self, started: datetime) -> RunSummary:
        """The summary of the run, without times."""
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
            computed_by=[],
        )
