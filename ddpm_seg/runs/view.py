"""What an output says now: of everything ever published, the latest row of each input."""

from __future__ import annotations

import re
from collections.abc import Sequence

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from ddpm_seg import storage
from ddpm_seg.runs.layout import uris_under

_SHARD = re.compile(r"/config=([^/]+)/run=(run-\d+)/shard-\d+\.parquet$")


def read_view(
    output: str, table: str, *, config_hash: str | None = None, columns: Sequence[str] | None = None
) -> pa.Table:
    """Rows of `table` under `output`, one an `image_id`: that of the latest run, sorted by URI.

    Models and options are never mixed: `config_hash` says whose rows, by default those of the newest run. `columns`
    saves reading the pictures. Raises FileNotFoundError where nothing was published.
    """
    shards = _shards(output, table, config_hash)
    if not shards:
        of_config = f" for config {config_hash}" if config_hash else ""
        raise FileNotFoundError(f"no {table} table under {storage.redact(output)}{of_config}")
    keys = pa.concat_tables([_read(uri, ["image_id", "uri"]) for uri in shards])
    latest: dict[str, int] = {}
    for row, image_id in enumerate(keys["image_id"].to_pylist()):
        latest[image_id] = row  # shards come oldest run first
    wanted = keys.take(list(latest.values())).append_column("row", pa.array(list(latest.values()), pa.int64()))
    rows = pa.concat_tables([_read(uri, columns) for uri in shards])
    return rows.take(wanted.sort_by([("uri", "ascending")])["row"])


def read_labels(output: str, *, config_hash: str | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """The current labels under `output`: for each image the row of the latest run that labelled it.

    Rows of images that could not be read are there too, with `status` "error". Of several models or options under one
    output, those of the newest run, or of `config_hash`. `columns=["uri", "classes"]` saves reading the masks.
    """
    return read_view(output, "labels", config_hash=config_hash, columns=columns)


def _shards(output: str, table: str, config_hash: str | None) -> list[str]:
    """Shards of one configuration, by run and number."""
    found = []
    for uri in uris_under(storage.join(storage.normalize(output), table)):
        match = _SHARD.search(uri)
        if match and config_hash in (None, match[1]):
            found.append((match[2], match[1], uri))
    if not found:
        return []
    _, newest, _ = max(found)
    return [uri for _, config, uri in sorted(found) if config == newest]


def _read(uri: str, columns: Sequence[str] | None) -> pa.Table:
    """Columns of one shard; only their bytes are fetched."""
    names = None if columns is None else list(columns)
    if storage.is_local(uri):
        return pq.ParquetFile(uri).read(columns=names)
    with fsspec.open(uri, "rb") as file:
        return pq.ParquetFile(file).read(columns=names)
