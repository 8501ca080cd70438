"""What a run's shards and chunks consist of, image by image.

The manifest says it for single inputs. Of a container it says only that there is one; the run looks into it and writes
an index, once for each version of the container, so that all attempts cut the same chunks.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ddpm_seg import storage
from ddpm_seg.runs.commit import ShardPlan
from ddpm_seg.runs.layout import uris_under
from ddpm_seg.runs.manifest import INPUTS, LABELLED, METADATA_KEY, UNIT, WITHOUT, Manifest, image_id
from ddpm_seg.runs.parquet import DamagedFileError, encode, open_parquet, read_table, require_columns
from ddpm_seg.runs.planned import PlannedRun

_INDEX_TYPES: dict[str, pa.DataType] = {
    "name": pa.string(),
    "start": pa.int64(),
    "size_bytes": pa.int64(),
    "fault": pa.string(),
}
INDEX = pa.schema(_INDEX_TYPES)
"""Rows of an index: an image's name in the container, as tables store it, where it starts, its size, and why it cannot
be read, if so ("error_type: reason"). A row without a name is about the container itself."""

CONTAINER = "container"
"""Column of a chunk's items with the URI of the container that an image is in; absent for single inputs."""

SHARDS_IN_MEMORY = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """A container that is planned as a whole: a row of the manifest. `version` is the one to read; None if unknown."""

    shard: int
    image_id: str
    uri: str
    kind: str
    version: storage.FileInfo
    without: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Part:
    """The shard with this `number` of a container: the sizes of its chunks, which are those from `first` on."""

    unit: Unit
    number: int
    first: int
    images: tuple[int, ...]

    @property
    def row_id(self) -> str:
        """The id of a row about the container itself, of which each shard may need one."""
        return image_id(f"{self.unit.uri}#shard={self.number}") if self.number else self.unit.image_id


def units_of(manifest: Manifest) -> list[Unit]:
    """The containers that a run has planned, in order."""
    items = manifest.items
    if UNIT not in items.column_names:
        return []
    return [_unit(row) for row in items.filter(_is_unlabelled(items)).to_pylist()]


def _is_unlabelled(items: pa.Table) -> pa.ChunkedArray[Any]:
    """Which rows are containers, except those of a compacted run, whose images are inputs of their own."""
    return pc.fill_null(pc.not_equal(items[UNIT], LABELLED), False)


def write_index(run: PlannedRun, unit: Unit, rows: pa.Table, version: storage.FileInfo) -> None:
    """Stores what was found in a container of this `version`. The first index stays, unless it is damaged."""
    modified = version.modified.isoformat() if version.modified else None
    about = {"etag": version.etag, "size_bytes": version.size_bytes, "modified": modified}
    data = encode(rows.cast(INDEX).replace_schema_metadata({METADATA_KEY: json.dumps(about).encode()}))
    run.check()
    uri = run.index(unit.shard)
    if not storage.create_bytes(uri, data) and _count(uri) is None:
        storage.write_bytes(uri, data)


def units_to_look_into(run: PlannedRun, units: Sequence[Unit]) -> list[Unit]:
    """Those without an index."""
    there = set(uris_under(storage.join(run.chunks, "containers")))
    return [unit for unit in units if run.index(unit.shard) not in there or _count(run.index(unit.shard)) is None]


class Contents:
    """The contents of a run's shards. Every container must have an index; few of them are in memory at once.

    The images of a container fill as many shards as they need: the one in the manifest, then those whose numbers are
    higher by the number of shards in the manifest, by twice that number, and so on.
    """

    def __init__(self, manifest: Manifest, run: PlannedRun) -> None:
        if UNIT in manifest.items.column_names:
            items = manifest.items
            manifest = replace(manifest, items=items.filter(pc.fill_null(pc.not_equal(items[UNIT], LABELLED), True)))
        self._manifest, self._run, self._rows = manifest, run, manifest.shard_rows()
        self._parts: dict[int, _Part] = {}
        config = manifest.info.config
        step = int(str(config.get("shards", len(self._rows))))
        for unit in units_of(manifest):
            count = _count(run.index(unit.shard))
            if count is None:
                raise DamagedFileError(run.index(unit.shard), "it is gone or damaged", "run the same command again")
            size = int(str(config["chunk_size"]))
            # A container whose images are all single inputs has an empty chunk, so that its shard says it is done.
            chunks = [min(size, count - start) for start in range(0, count, size)] or [0]
            most = max(1, int(str(config["shard_size"])) // size)
            for number, first in enumerate(range(0, len(chunks), most)):
                part = _Part(unit=unit, number=number, first=first, images=tuple(chunks[first : first + most]))
                self._parts[unit.shard + number * step] = part
        self._index = lru_cache(SHARDS_IN_MEMORY)(self._read_index)

    def chunk_sizes(self) -> dict[int, list[int]]:
        """The number of images in each chunk of each shard."""
        single = {
            shard: [rows.stop - rows.start for rows in chunks]
            for shard, chunks in self._rows.items()
            if shard not in self._parts
        }
        return {**single, **{shard: list(part.images) for shard, part in sorted(self._parts.items())}}

    @property
    def images(self) -> int:
        return sum(sum(sizes) for sizes in self.chunk_sizes().values())

    def items(self, shard: int, chunk: int) -> pa.Table:
        """The images of a chunk: the manifest's rows, or for those in a container rows with the columns of INPUTS, then
        CONTAINER, `container_id`, UNIT, `container_bytes` (the container's size), `start` and `fault`."""
        if shard not in self._parts:
            rows = self._rows[shard][chunk]
            return self._manifest.items.slice(rows.start, rows.stop - rows.start)
        part = self._parts[shard]
        size = int(str(self._manifest.info.config["chunk_size"]))
        index = self._index(part.unit).slice((part.first + chunk) * size, part.images[chunk])
        return _items(part, index)

    def plan(self, shard: int, run: PlannedRun) -> ShardPlan:
        """What the published shard of `run`, which is this run, must have."""
        sizes = self._parts[shard].images if shard in self._parts else self._rows[shard]
        chunks: list[Any] = [self.items(shard, chunk)["image_id"].to_pylist() for chunk in range(len(sizes))]
        container = self._parts[shard].row_id if shard in self._parts else ""
        return ShardPlan(run=run, shard=shard, chunks=chunks, container=container)

    def _read_index(self, unit: Unit) -> pa.Table:
        uri = self._run.index(unit.shard)
        table = read_table(uri)
        require_columns(uri, table.schema, INDEX.names)
        return table


def _unit(row: dict[str, Any]) -> Unit:
    return Unit(
        shard=row["shard"],
        image_id=row["image_id"],
        uri=row["uri"],
        kind=row[UNIT],
        version=storage.FileInfo(
            uri=row["uri"], size_bytes=row["size_bytes"], etag=row["etag"], modified=row["modified"]
        ),
        without=frozenset(row.get(WITHOUT) or ()),
    )


def _items(part: _Part, index: pa.Table) -> pa.Table:
    unit = part.unit
    about = json.loads((index.schema.metadata or {})[METADATA_KEY])
    modified = datetime.fromisoformat(about["modified"]) if about["modified"] else None
    names: list[Any] = index["name"].to_pylist()
    uris = [unit.uri if name is None else f"{unit.uri}#{name}" for name in names]
    ids = [part.row_id if name is None else image_id(uri) for name, uri in zip(names, uris, strict=True)]
    number = len(names)

    def same(value: object, kind: pa.DataType) -> pa.Array[Any]:
        return pa.array(np.full(number, value, object), kind)

    columns: dict[str, Any] = {
        "image_id": pa.array(ids, pa.string()),
        "uri": pa.array(uris, pa.string()),
        "etag": same(about["etag"], pa.string()),
        "size_bytes": index["size_bytes"],
        "modified": same(modified, INPUTS.field("modified").type),
        CONTAINER: same(unit.uri, pa.string()),
        "container_id": same(part.row_id, pa.string()),
        UNIT: same(unit.kind, pa.string()),
        "container_bytes": same(about["size_bytes"], pa.int64()),
        "start": index["start"],
        "fault": index["fault"],
    }
    return pa.table(columns)


def _count(index: str) -> int | None:
    """The number of rows of an index; None if it is missing or damaged."""
    try:
        with open_parquet(index) as file:
            require_columns(index, file.schema_arrow, INDEX.names)
            return file.metadata.num_rows
    except (FileNotFoundError, DamagedFileError):
        return None
