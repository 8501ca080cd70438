"""An S3 Inventory as an input: by its manifest, with data files as Amazon writes them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ddpm_seg import storage
from ddpm_seg.data.inputs.listing import list_images

SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"
COLUMNS = ("bucket", "key", "version_id", "is_latest", "is_delete_marker", "size", "last_modified_date", "e_tag")
MODIFIED = datetime(2026, 11, 25, 1, 2, 3, tzinfo=timezone.utc)
KEYS = ["photos/two words.jpg", "photos/ünï+1.png", "b.tiff"]
NO_IMAGES = ["photos/", "notes.txt", "__MACOSX/photos/x.jpg", ".cache/y.jpg"]


def rows() -> list[tuple[Any, ...]]:
    current = [("photos", key, "v2", True, False, 7, MODIFIED, f"etag of {key}") for key in [*KEYS, *NO_IMAGES]]
    gone = [("photos", KEYS[0], "v1", False, False, 5, MODIFIED, "an older version"),
            ("photos", "deleted.png", "v1", True, True, None, MODIFIED, None)]  # fmt: skip
    return [*current, *gone]


def parquet(some: Sequence[tuple[Any, ...]]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(dict(zip(COLUMNS, map(list, zip(*some, strict=True)), strict=True))), sink)
    return sink.getvalue().to_pybytes()


def gzipped(some: Sequence[tuple[Any, ...]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    for bucket, key, version, latest, deleted, size, modified, etag in some:
        written = modified.isoformat().replace("+00:00", "Z"), etag, "STANDARD"
        writer.writerow([bucket, quote_plus(key), version, str(latest).lower(), str(deleted).lower(), size, *written])
    return gzip.compress(text.getvalue().encode())


def manifest(kind: str, keys: Sequence[str], bucket: str = "data") -> bytes:
    about = {"sourceBucket": "photos", "destinationBucket": f"arn:aws:s3:::{bucket}", "version": "2016-11-30"}
    files = [{"key": key, "size": 1, "MD5checksum": "0"} for key in keys]
    return json.dumps({**about, "fileFormat": kind, "fileSchema": SCHEMA, "files": files}).encode()


@pytest.mark.parametrize(("kind", "suffix", "encode"), [("Parquet", ".parquet", parquet), ("CSV", ".csv.gz", gzipped)])
def test_lists_the_images_of_the_bucket(
    s3: Callable[[], str], kind: str, suffix: str, encode: Callable[[Sequence[tuple[Any, ...]]], bytes]
) -> None:
    root = s3()
    places = [storage.join(root, "data", f"{number}{suffix}") for number in range(2)]
    storage.write_bytes(places[0], encode(rows()[:3]))
    storage.write_bytes(places[1], encode(rows()[3:]))
    uri = storage.join(root, "2026-11-25T01-00Z", "manifest.json")
    storage.write_bytes(uri, manifest(kind, [place.removeprefix("s3://data/") for place in places]))
    listing = list_images(uri)
    assert {file.uri: (file.etag, file.size_bytes, file.modified) for file in listing.files} == {
        f"s3://photos/{key}": (f"etag of {key}", 7, MODIFIED) for key in KEYS
    }
    assert (listing.skipped, listing.hidden, listing.refused) == (1, 2, [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not the manifest of an S3 Inventory"),
        (b"[]", "is not the manifest of an S3 Inventory"),
        (b'{"files": []}', "is not the manifest of an S3 Inventory: KeyError 'fileFormat'"),
        (b"[" * 100_000, "is not the manifest of an S3 Inventory"),
        (manifest("ORC", ["x.orc"]), "has the format 'ORC'; set the inventory's format to Parquet or CSV"),
        (manifest("Parquet", ["x.json"]), r"names 'x.json', which does not end in \.parquet"),
        (manifest("CSV", []), "no images at"),
    ],
)
def test_another_file_of_that_name_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list_images(str(tmp_path / "manifest.json"))


@pytest.mark.parametrize("data", [b"no gzip", gzip.compress(b"x" * 1000)[:-9], b""])
def test_a_damaged_part_is_named(s3: Callable[[], str], data: bytes) -> None:
    root = s3()
    part, uri = storage.join(root, "0.csv.gz"), storage.join(root, "manifest.json")
    storage.write_bytes(part, data)
    storage.write_bytes(uri, manifest("CSV", [part.removeprefix("s3://data/")]))
    with pytest.raises(ValueError, match=rf"{part} cannot be read as a part of an S3 Inventory|no images at"):
        list(list_images(uri).files)
