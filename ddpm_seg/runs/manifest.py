"""The plan of a run: which inputs, in which shards and chunks. It is written once and never changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

import numpy as np
import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.tables import decode, encode

METADATA_KEY = b"ddpm_seg"

# An actor that dies takes its chunk along and, with few chunks, actors idle at the end: so each gets about this many.
CHUNKS_PER_ACTOR = 20

INPUTS = pa.schema(
    [
        pa.field("image_id", pa.string()),
        pa.field("uri", pa.string()),
        pa.field("etag", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("modified", pa.timestamp("us", tz="UTC")),
    ]
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunInfo:
    """What a run is, as its manifest's metadata keeps it."""

    run_id: str
    config_hash: str
    created_at: datetime
    config: dict[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """`items` has the input columns, then int32 `shard` and `chunk`; rows of a chunk stand together, in order."""

    info: RunInfo
    items: pa.Table

    def chunks(self) -> Iterator[tuple[int, int, pa.Table]]:
        """(shard, chunk, its rows) in order."""
        shards, chunks = (self.items[name].to_numpy() for name in ("shard", "chunk"))
        changes = np.flatnonzero((np.diff(shards) != 0) | (np.diff(chunks) != 0)) + 1
        bounds = [0, *changes.tolist(), len(shards)] if len(shards) else [0]
        for start, stop in pairwise(bounds):
            yield int(shards[start]), int(chunks[start]), self.items.slice(start, stop - start)

    def shard_sizes(self) -> dict[int, tuple[int, int]]:
        """Of each shard, (rows, chunks)."""
        sizes: dict[int, tuple[int, int]] = {}
        for shard, _, rows in self.chunks():
            known_rows, known_chunks = sizes.get(shard, (0, 0))
            sizes[shard] = known_rows + rows.num_rows, known_chunks + 1
        return sizes


def image_id(uri: str) -> str:
    """Stable 128-bit name of an input: the same URI has the same one in every run and under every model."""
    return hashlib.blake2b(uri.encode(), digest_size=16).hexdigest()


def stored_uri(uri: str) -> str:
    """`uri` as tables hold it: without credentials and signatures, and UTF-8 even where a file's name is not."""
    return storage.redact(uri).encode("utf-8", "backslashreplace").decode()


def inputs_table(files: list[storage.FileInfo]) -> pa.Table:
    """Files as INPUTS rows, sorted by URI (`stored_uri`).

    Raises ValueError where two inputs would then be one.
    """
    by_uri: dict[str, storage.FileInfo] = {}
    for file in files:
        uri = stored_uri(file.uri)
        if uri in by_uri and by_uri[uri].uri != file.uri:
            raise ValueError(
                f"two inputs differ only in their query string or credentials, which are never stored: {uri}. "
                "Give each image a path of its own."
            )
        by_uri[uri] = file
    rows = sorted(by_uri.items())
    columns = [
        [image_id(uri) for uri, _ in rows],
        [uri for uri, _ in rows],
        [file.etag for _, file in rows],
        [file.size_bytes for _, file in rows],
        [file.modified for _, file in rows],
    ]
    return pa.table(
        [pa.array(column, field.type) for column, field in zip(columns, INPUTS, strict=True)], schema=INPUTS
    )


def chunk_size_for(items: int, largest: int, actors: int) -> int:
    """At most `largest`, fewer where that would leave an actor under some twenty chunks."""
    return max(1, min(largest, -(-items // (CHUNKS_PER_ACTOR * actors))))


def plan(inputs: pa.Table, shard_size: int, chunk_size: int) -> pa.Table:
    """Adds int32 `shard` and `chunk` (counted from 0 in each shard): consecutive rows, all full but the last."""
    position = np.arange(inputs.num_rows)
    shard = (position // shard_size).astype(np.int32)
    chunk = (position % shard_size // chunk_size).astype(np.int32)
    return inputs.append_column("shard", pa.array(shard)).append_column("chunk", pa.array(chunk))


def create_manifest(layout: RunLayout, manifest: Manifest) -> bool:
    """Freezes the plan; False where another driver's stands under this number."""
    info = manifest.info
    metadata = {
        "run_id": info.run_id,
        "config_hash": info.config_hash,
        "created_at": info.created_at.isoformat(),
        "config": info.config,
    }
    items = manifest.items.replace_schema_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True).encode()})
    return storage.create_bytes(layout.manifest, encode(items))


def read_manifest(uri: str) -> Manifest:
    """Raises ValueError for a file that is no manifest."""
    items = decode(storage.read_bytes(uri))
    try:
        metadata = json.loads((items.schema.metadata or {})[METADATA_KEY])
        info = RunInfo(
            run_id=metadata["run_id"],
            config_hash=metadata["config_hash"],
            created_at=datetime.fromisoformat(metadata["created_at"]),
            config=metadata["config"],
        )
    except (KeyError, ValueError) as error:
        raise ValueError(f"{uri} is not a manifest of this project ({error}); choose another --output") from error
    return Manifest(info=info, items=items.replace_schema_metadata(None))
