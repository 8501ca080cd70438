"""Reads an S3 Inventory, Amazon's daily list of a bucket's objects, by its `manifest.json`.

Format: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.data.inputs import lists
from ddpm_seg.data.inputs.entries import RefusedEntry, file_of_entry
from ddpm_seg.data.inputs.list_columns import Entry
from ddpm_seg.storage import FileInfo

NAME = "manifest.json"
_MAX_BYTES = 100_000_000
_ENDS = {"Parquet": ".parquet", "CSV": ".csv.gz"}


def is_inventory(uri: str) -> bool:
    """Whether this is the name of an inventory's manifest."""
    return storage.redact(uri).rpartition("/")[2] == NAME


def files_in(manifest_uri: str, refused: list[RefusedEntry]) -> Iterator[FileInfo]:
    """The current objects that an inventory lists, with their versions. Entries that make no sense go to `refused`.

    Raises ValueError if this is not an inventory's manifest, its format is not Parquet or CSV, or a file of it cannot
    be read as such, also while the files are iterated; OSError if one cannot be read at all.
    """
    kind, schema, data_uris = _parsed(storage.read_bytes(manifest_uri, max_bytes=_MAX_BYTES), manifest_uri)
    for uri in data_uris:
        try:
            entries = lists.read_list(uri).entries if kind == "Parquet" else _csv_entries(uri, schema)
            for entry in entries:
                if entry.text.endswith("/"):  # a folder's marker
                    continue
                file = file_of_entry(entry, manifest_uri)
                if isinstance(file, RefusedEntry):
                    refused.append(file)
                else:
                    yield file
        except (ValueError, csv.Error, pa.ArrowException, zlib.error, EOFError, gzip.BadGzipFile) as error:
            raise ValueError(f"{storage.redact(uri)} cannot be read as a part of an S3 Inventory: {error}") from error


def _parsed(data: bytes, uri: str) -> tuple[str, str, list[str]]:
    """Format, schema and the URIs of the data files."""
    expected = f"{storage.redact(uri)} is not the manifest of an S3 Inventory"
    try:
        found: Any = json.loads(data)
        kind, schema = str(found["fileFormat"]), str(found["fileSchema"])
        bucket = str(found["destinationBucket"]).rpartition(":")[2]  # of arn:aws:s3:::BUCKET
        keys = [str(file["key"]) for file in found["files"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{expected}: {type(error).__name__} {error}") from None
    if kind not in _ENDS:
        raise ValueError(f"{storage.redact(uri)} has the format {kind!r}; set the inventory's format to Parquet or CSV")
    strange = next((key for key in keys if not key.endswith(_ENDS[kind])), None)
    if strange is not None:
        raise ValueError(f"{expected}: it names {strange!r}, which does not end in {_ENDS[kind]}")
    return kind, schema, [f"s3://{bucket}/{key}" for key in keys]


def _csv_entries(uri: str, schema: str) -> Iterable[Entry]:
    """Entries of a data file, which has no header: the manifest's schema has the names of its columns."""
    data = storage.read_bytes(uri, max_bytes=lists.MAX_BYTES)
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        text = file.read(lists.MAX_BYTES + 1)
    if len(text) > lists.MAX_BYTES:
        raise ValueError(f"it inflates to more than {lists.MAX_BYTES} bytes")
    return lists.entries_without_header(text, [name.strip() for name in schema.split(",")])
