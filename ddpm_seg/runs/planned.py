"""A run bound to its plan.

Chunk paths contain the plan's digest, and rows name their run, so that results of another plan are never mistaken for
this one's, even if outputs were moved, deleted or started over meanwhile.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from ddpm_seg import storage
from ddpm_seg.runs.layout import RunLayout, uris_under
from ddpm_seg.runs.manifest import digest

OUTCOME = ("status", "error_type")
"""The columns with the outcome of an image."""

_CHUNK = re.compile(r"shard-(\d+)/chunk-(\d+)\.parquet$")

# File info of manifests when this process last compared their content, so that later checks cost one request each.
_compared: dict[tuple[str, str], storage.FileInfo] = {}


class RunLostError(OSError):
    """A run's manifest has disappeared or changed: its output was moved, deleted or started over during the work."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedRun:
    """A run and the digest of its manifest: all that tasks on other machines know about the plan."""

    layout: RunLayout
    digest: str
    stamp: Mapping[str, str | datetime]
    """Columns whose value is the same in every row of the run, by name: config_hash, run_id, …"""

    @property
    def chunks(self) -> str:
        return storage.join(self.layout.chunks, f"run={self.layout.run_id}-{self.digest}")

    def shard_chunks(self, shard: int) -> str:
        return storage.join(self.chunks, f"shard-{shard:05d}")

    def chunk(self, shard: int, chunk: int) -> str:
        return storage.join(self.shard_chunks(shard), f"chunk-{chunk:04d}.parquet")

    def index(self, shard: int) -> str:
        """The file that says what is in the container that is planned as this shard (see `contents`)."""
        return storage.join(self.chunks, "containers", f"shard-{shard:05d}.parquet")

    def finished_chunks(self) -> set[tuple[int, int]]:
        """(shard, chunk) of every chunk whose file exists."""
        names = (_CHUNK.search(uri) for uri in uris_under(self.chunks))
        return {(int(match[1]), int(match[2])) for match in names if match}

    @property
    def columns(self) -> list[str]:
        """The columns that identify which run and images rows belong to."""
        return ["image_id", *self.stamp]

    def misfit(self, rows: pa.Table, image_ids: Sequence[str]) -> str | None:
        """Why `rows` are not this run's rows of the images `image_ids`, in that order; None if they are."""
        missing = [name for name in (*self.columns, *OUTCOME) if name not in rows.column_names]
        if missing:
            return f"there is no column {missing[0]!r}"
        if rows.num_rows != len(image_ids):
            return f"it has {rows.num_rows} rows, the plan {len(image_ids)}"
        if rows["image_id"].to_pylist() != list(image_ids):
            return "its rows are of other images than the plan's, or in another order"
        for name, expected in self.stamp.items():
            column = rows[name].combine_chunks()
            try:
                other = pc.fill_null(pc.not_equal(column, pa.scalar(expected, column.type)), True)
            except (pa.ArrowException, TypeError):
                return f"{name} is of type {column.type}"
            if pc.any(other).as_py():
                return f"{name} is {column.filter(other)[0].as_py()!s}, expected {expected!s}"
        return None

    def check(self) -> None:
        """Raises RunLostError if the run's manifest no longer exists or is another one."""
        uri = self.layout.manifest
        try:
            found = storage.info(uri)
            if _compared.get((uri, self.digest)) == found:
                return
            now = digest(storage.read_bytes(uri))
        except (FileNotFoundError, NotADirectoryError):
            raise RunLostError(self._lost("no longer exists")) from None
        if now != self.digest:
            raise RunLostError(self._lost("has changed"))
        _compared[uri, self.digest] = found

    def _lost(self, what: str) -> str:
        return (
            f"{self.layout.manifest}, the plan of this run, {what}: the output was moved, deleted or started over "
            "during the run. The run stops and publishes nothing more. Put the output back to finish the run"
        )
