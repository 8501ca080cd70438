"""Which images a job is asked about: a folder or prefix, a pattern, one file, or a file that lists URIs."""

from __future__ import annotations

import csv
import io
import posixpath
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from ddpm_seg import storage
from ddpm_seg.data.images import EXTENSIONS
from ddpm_seg.storage import FileInfo
from ddpm_seg.uris import is_http

_COLUMNS = ("uri", "url", "path")
_LISTS = (".txt", ".csv", ".parquet")


@dataclass(kw_only=True, slots=True)
class Listing:
    """`files` are unique and come once: of millions, few are held. `skipped` counts those without an image's extension
    among what has come so far.
    """

    files: Iterable[FileInfo]
    skipped: int = 0


def list_images(input_uri: str) -> Listing:
    """The images that `input_uri` stands for.

    * a folder or `s3://bucket/prefix`: every file in it, at any depth, whose extension is an image's;
    * a pattern (`photos/2026-*/*.jpg`), where no file has that very name: the same of what matches;
    * an image's URI: that one (over http(s) and without an extension too);
    * a `.txt` (a URI a line; blank lines and lines that start with `#` are ignored), `.csv` or `.parquet` (column
      "uri", "url" or "path", else the first): every entry, whatever its extension, there or not, so that each gets a
      row in the end. Relative entries start at the list's own folder. Remote entries are not looked up, one request
      each: their size, ETag and time are None, and whoever reads them records what was read.

    Raises FileNotFoundError where nothing is found, ValueError where files are found and no image, or an empty list.
    """
    uri = storage.normalize(input_uri)
    file = _single_file(uri)
    if file is not None:
        suffix = _suffix(uri)
        if suffix in _LISTS:
            return _listed(uri, suffix)
        if suffix and suffix not in EXTENSIONS and not is_http(uri):
            raise ValueError(
                f"{storage.redact(uri)} is neither an image ({_known()}) nor a list of images ({', '.join(_LISTS)})"
            )
        return Listing(files=[file])
    found = storage.list_files(uri)
    first = next(found, None)
    if first is None and re.search(r"[*?\[]", uri):
        found = iter(storage.glob(uri))
        first = next(found, None)
    if first is None:
        raise FileNotFoundError(f"nothing found at {storage.redact(uri)}: no file, no folder with files, no prefix")
    listing = Listing(files=())
    images = _images(chain([first], found), listing)
    image = next(images, None)
    if image is None:
        raise ValueError(
            f"no images at {storage.redact(uri)}: {listing.skipped} files found, none with an image's extension "
            f"({_known()})"
        )
    listing.files = chain([image], images)
    return listing


def _images(files: Iterable[FileInfo], listing: Listing) -> Iterator[FileInfo]:
    for file in files:
        if _suffix(file.uri) in EXTENSIONS:
            yield file
        else:
            listing.skipped += 1


def _single_file(uri: str) -> FileInfo | None:
    try:
        return storage.info(uri)
    except (IsADirectoryError, FileNotFoundError, NotADirectoryError):
        if is_http(uri):  # it has no folders to look into
            raise
        return None


def _suffix(uri: str) -> str:
    path = uri if storage.is_local(uri) else storage.redact(uri)
    return PurePosixPath(path).suffix.lower()


def _known() -> str:
    return " ".join(sorted(EXTENSIONS))


def _listed(list_uri: str, suffix: str) -> Listing:
    data = storage.read_bytes(list_uri)
    read = {".txt": _text_entries, ".csv": _csv_entries, ".parquet": _parquet_entries}[suffix]
    try:
        entries = read(data)
    except (ValueError, csv.Error, pa.ArrowException) as error:
        raise ValueError(f"{storage.redact(list_uri)} cannot be read as a list of URIs: {error}") from error
    uris = sorted({_resolve(entry, list_uri) for entry in entries if entry})
    if not uris:
        raise ValueError(f"{storage.redact(list_uri)} lists no image")
    return Listing(files=[_entry_info(uri) for uri in uris])


def _text_entries(data: bytes) -> Iterable[str]:
    # Only line feeds end a line: splitlines() would cut a name at any of a dozen characters.
    lines = (line.strip(" \t\r") for line in _text(data).split("\n"))
    return [line for line in lines if not line.startswith("#")]


def _csv_entries(data: bytes) -> Iterable[str]:
    rows = csv.reader(io.StringIO(_text(data), newline=""))
    header = [name.strip() for name in next(rows, [])]
    if not header:
        raise ValueError("there is no header line")
    column = _column(header)
    return [row[column] for row in rows if len(row) > column]


def _parquet_entries(data: bytes) -> Iterable[str]:
    file = pq.ParquetFile(pa.BufferReader(data))
    names = file.schema_arrow.names
    if not names:
        raise ValueError("it has no columns")
    column = _column(names)
    kind = file.schema_arrow.field(column).type
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_string(values) or pa.types.is_large_string(values)):
        raise ValueError(f"column {names[column]!r} holds {kind}, not strings")
    return [entry for entry in file.read(columns=[names[column]]).column(0).to_pylist() if entry is not None]


def _column(names: list[str]) -> int:
    lower = [name.lower() for name in names]
    return next((lower.index(name) for name in _COLUMNS if name in lower), 0)


def _text(data: bytes) -> str:
    return data.decode("utf-8", errors="surrogateescape").removeprefix("\ufeff")


def _resolve(entry: str, list_uri: str) -> str:
    """The normalized URI of an entry; a relative path starts at the folder of the list."""
    if not storage.is_local(entry) or entry.startswith("/") or entry.lower().startswith("file://"):
        return storage.normalize(entry)
    if storage.is_local(list_uri):
        return storage.normalize(storage.join(posixpath.dirname(list_uri), entry))
    scheme, _, place = storage.redact(list_uri).partition("://")
    return storage.normalize(f"{scheme}://{posixpath.normpath(f'{posixpath.dirname(place)}/{entry}')}")


def _entry_info(uri: str) -> FileInfo:
    if storage.is_local(uri):
        # Not there, a folder, or a name that no file can have: the row that says so is written when it is read.
        with suppress(OSError, ValueError):
            return storage.info(uri)
    return FileInfo(uri=uri)
