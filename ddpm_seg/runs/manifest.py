"""The manifest: a run's plan, with its inputs and their shards and chunks. It is written once and never changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ddpm_seg import storage
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.parquet import DamagedFileError, damage_named, decode, encode, open_parquet, require_columns
from ddpm_seg.spool import Spool, spool_sorted

METADATA_KEY = b"ddpm_seg"

# About how many chunks each actor gets. A dying actor loses its chunk, and with few chunks actors idle at the end.
CHUNKS_PER_ACTOR = 20

# Rows that planning holds as Python objects at a time, and rows per row group of a manifest.
BATCH_ROWS = 65_536

# Rows of a listing that are sorted at once.
SORTED_ROWS = 4 * BATCH_ROWS

_INPUT_TYPES: dict[str, pa.DataType] = {
    "image_id": pa.string(),
    "uri": pa.string(),
    "etag": pa.string(),
    "size_bytes": pa.int64(),
    "modified": pa.timestamp("us", tz="UTC"),
}
INPUTS = pa.schema(_INPUT_TYPES)


UNIT = "unit"
"""Manifest column with the kind of a container that is planned as a whole, such as "tar", and null for single inputs.
Absent if there are no containers. What is in a container is known only when the run looks into it (`contents`)."""
INSIDE = "inside"
"""Column of inputs that are images in a container which could be planned as a whole: the `image_id` that it would have.
"""
LABELLED = "labelled"
"""Value of UNIT in the manifest of a compacted run: the container's images have rows of their own in the manifest."""
WITHOUT = "without"
"""Manifest column with the stored URIs of images in a container that another run, or this one, has as single inputs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunInfo:
    """The metadata of a run that its manifest stores."""

    run_id: str
    config_hash: str
    created_at: datetime
    config: dict[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """`items` has the input columns, then int32 `shard` and `chunk`. The rows of a chunk are adjacent and in order."""

    info: RunInfo
    items: pa.Table
    digest: str = ""
    """The `digest` of the stored file; empty if it is not stored yet."""

    def chunks(self) -> Iterator[tuple[int, int, pa.Table]]:
        """(shard, chunk, its rows) in order."""
        for shard, chunk, rows in self._bounds():
            yield shard, chunk, self.items.slice(rows.start, rows.stop - rows.start)

    def shard_rows(self) -> dict[int, list[slice]]:
        """The row ranges of each shard's chunks, in order."""
        found: dict[int, list[slice]] = {}
        for shard, _, rows in self._bounds():
            found.setdefault(shard, []).append(rows)
        return found

    def _bounds(self) -> Iterator[tuple[int, int, slice]]:
        shards, chunks = (self.items[name].to_numpy() for name in ("shard", "chunk"))
        changes = np.flatnonzero((np.diff(shards) != 0) | (np.diff(chunks) != 0)) + 1
        bounds = [0, *changes.tolist(), len(shards)] if len(shards) else [0]
        for start, stop in pairwise(bounds):
            yield int(shards[start]), int(chunks[start]), slice(start, stop)

    def shard_sizes(self) -> dict[int, tuple[int, int]]:
        """The number of (rows, chunks) of each shard."""
        sizes: dict[int, tuple[int, int]] = {}
        for shard, _, rows in self.chunks():
            known_rows, known_chunks = sizes.get(shard, (0, 0))
            sizes[shard] = known_rows + rows.num_rows, known_chunks + 1
        return sizes


def image_id(uri: str) -> str:
    """A stable 128-bit id of an input in hex: the same URI has the same id in every run and with every model."""
    return hashlib.blake2b(uri.encode(), digest_size=16).hexdigest()


def stored_uri(uri: str) -> str:
    """`uri` as tables store it: without credentials and signatures; bytes of a file name that are not UTF-8 escaped."""
    return storage.redact(uri).encode("utf-8", "backslashreplace").decode()


def inputs_table(files: Iterable[storage.FileInfo]) -> pa.Table:
    """The files as rows of INPUTS, sorted by stored URI; see `inputs_spool`."""
    return inputs_spool(files).table()


def inputs_spool(files: Iterable[storage.FileInfo]) -> Spool:
    """The files as rows of INPUTS, sorted by stored URI. Consumes `files` in batches, never holding all at once.

    Raises ValueError if two files have the same stored URI.
    """
    found = spool_sorted(_input_tables(files), INPUTS, "uri")
    last: str | None = None
    for batch in found.batches():
        uris = pa.chunked_array([pa.array([last], pa.string()), batch["uri"]])
        twice = pc.index(_neighbours(pc.equal, uris), True).as_py()
        if twice >= 0:
            raise ValueError(
                "two inputs differ only in their query string or credentials, which are never stored: "
                f"{uris[twice]}. Give each image its own path."
            )
        last = uris[-1].as_py()
    return found


def _input_tables(files: Iterable[storage.FileInfo]) -> Iterator[pa.Table]:
    """Rows of INPUTS, `SORTED_ROWS` at a time."""
    files = iter(files)
    while batches := list(islice(_input_batches(files), SORTED_ROWS // BATCH_ROWS)):
        yield pa.Table.from_batches(batches)


def _input_batches(files: Iterator[storage.FileInfo]) -> Iterator[pa.RecordBatch]:
    while batch := list(islice(files, BATCH_ROWS)):
        uris = [stored_uri(file.uri) for file in batch]
        columns: list[list[Any]] = [
            [image_id(uri) for uri in uris],
            uris,
            [file.etag for file in batch],
            [file.size_bytes for file in batch],
            [file.modified for file in batch],
        ]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, INPUTS, strict=True)]
        yield pa.record_batch(arrays, schema=INPUTS)


def _neighbours(compare: Callable[..., pa.ChunkedArray[Any]], column: pa.ChunkedArray[Any]) -> pa.ChunkedArray[Any]:
    """The result of `compare` for each value and the next one."""
    return compare(column.slice(0, max(0, len(column) - 1)), column.slice(1))


def chunk_size_for(items: int, largest: int, actors: int) -> int:
    """The chunk size for `items` items: `largest`, or less so that each of `actors` gets about CHUNKS_PER_ACTOR."""
    return max(1, min(largest, -(-items // (CHUNKS_PER_ACTOR * actors))))


def plan(inputs: pa.Table, shard_size: int, chunk_size: int) -> pa.Table:
    """`inputs` with int32 columns `shard` and `chunk`, which divide the rows in order. All but the last ones are full.

    Chunks are counted from 0 within each shard. Containers (column UNIT) come last, each with a shard of its own.
    """
    single = inputs.num_rows
    if UNIT in inputs.column_names:
        inputs = pa.concat_tables([inputs.filter(pc.is_null(inputs[UNIT])), inputs.filter(pc.is_valid(inputs[UNIT]))])
        single = pc.sum(pc.is_null(inputs[UNIT])).as_py() or 0
    position = np.arange(single)
    units = -(-single // shard_size) + np.arange(inputs.num_rows - single)
    shard = np.concatenate([position // shard_size, units]).astype(np.int32)
    chunk = np.concatenate([position % shard_size // chunk_size, 0 * units]).astype(np.int32)
    return inputs.append_column("shard", pa.array(shard)).append_column("chunk", pa.array(chunk))


def create_manifest(layout: RunLayout, manifest: Manifest) -> bool:
    """Stores the plan, which never changes afterwards; False if another driver's manifest exists under this number."""
    info = manifest.info
    metadata = {
        "run_id": info.run_id,
        "config_hash": info.config_hash,
        "created_at": info.created_at.isoformat(),
        "config": info.config,
    }
    items = manifest.items.replace_schema_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()})
    return storage.create_bytes(layout.manifest, encode_manifest(items))


def encode_manifest(items: pa.Table) -> bytes:
    """The bytes of a manifest with these rows, which have its metadata: a row group is what planning reads at once."""
    return encode(items, row_group_size=BATCH_ROWS)


def digest(data: bytes) -> str:
    """The digest of a manifest's bytes, 32 hex digits: it identifies inputs, configuration and time of the plan.

    As a manifest is never rewritten, a copy of an output in another place keeps its digests.
    """
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_manifest(uri: str) -> Manifest:
    """Reads a manifest. Raises DamagedFileError for a file that is not one, or is damaged."""
    data = storage.read_bytes(uri)
    with manifest_named(uri):
        with damage_named(uri):
            items = decode(data)
        info = _info(uri, items.schema)
        check_items(uri, items.schema)
        for name in ("image_id", "uri", "shard", "chunk"):
            if items[name].null_count:
                raise DamagedFileError(uri, f"its column {name!r} has empty values")
    return Manifest(info=info, items=items.replace_schema_metadata(None), digest=digest(data))


def read_info(uri: str) -> RunInfo:
    """Reads only a manifest's metadata, no rows. Raises DamagedFileError for a file that is not a manifest."""
    with manifest_named(uri), open_parquet(uri) as file:
        return _info(uri, file.schema_arrow)


def check_items(uri: str, schema: pa.Schema) -> None:
    """Raises DamagedFileError unless `schema` has the columns of a manifest."""
    expected = [*INPUTS, pa.field("shard", pa.int32()), pa.field("chunk", pa.int32())]
    require_columns(uri, schema, [field.name for field in expected])
    for field in expected:
        found = schema.field(field.name).type
        if found != field.type:
            raise DamagedFileError(uri, f"its column {field.name!r} is {found}, expected {field.type}")


@contextmanager
def manifest_named(uri: str) -> Iterator[None]:
    """Adds what to do to a DamagedFileError about a manifest."""
    try:
        yield
    except DamagedFileError as error:
        folder = storage.redact(uri.rpartition("/")[0])
        raise DamagedFileError(
            uri, error.reason, f"restore it from a copy, or delete {folder} so that the next run does its images again"
        ) from error


def _info(uri: str, schema: pa.Schema) -> RunInfo:
    try:
        metadata = json.loads((schema.metadata or {})[METADATA_KEY])
        info = RunInfo(
            run_id=metadata["run_id"],
            config_hash=metadata["config_hash"],
            created_at=datetime.fromisoformat(metadata["created_at"]),
            config=metadata["config"],
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise DamagedFileError(uri, f"it is not a manifest of this project ({error})") from error
    if not isinstance(info.config, dict) or not isinstance(info.config_hash, str):
        raise DamagedFileError(uri, "it is not a manifest of this project: its metadata has other types")
    return info
