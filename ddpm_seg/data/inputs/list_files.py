"""Lists the images that list files name. They wait in a temporary file, sorted, so that millions need little memory."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.data.inputs import lists, sources
from ddpm_seg.data.inputs.container_images import in_container
from ddpm_seg.data.inputs.entries import RefusedEntry, as_stored, file_of_entry
from ddpm_seg.data.inputs.wanted import Listing, Wanted
from ddpm_seg.spool import Spool, spool_sorted
from ddpm_seg.storage import FileInfo

_TYPES: dict[str, pa.DataType] = {
    "uri": pa.binary(),  # names of local files may not be UTF-8
    "place": pa.int64(),  # in the lists
    "etag": pa.string(),
    "size_bytes": pa.int64(),
    "modified": pa.timestamp("us", "UTC"),
}
_NAMED = pa.schema(_TYPES)
_ROWS = 65_536  # sorted at a time


def list_named(list_uris: Sequence[str], wanted: Wanted, uri: str) -> Listing:
    """The listing of what these lists name; `uri` is what the user named.

    A name that stands twice counts as on its later line. Raises ValueError if a list cannot be read, or lists nothing.
    """
    lists_read = _Lists(list_uris, wanted.uri_column)
    named = spool_sorted(lists_read.tables(), _NAMED, "uri")
    refused = lists_read.refused
    if not named.num_rows and not refused:
        tables = "" if list_uris else f": no file {' '.join(lists.TABLES)} there, as --uri-column needs"
        raise ValueError(f"{storage.redact(uri)} lists no images{tables}")
    if refused:
        for file in _files(named):  # a row cannot be both
            refused.pop(as_stored(file.uri), None)
    listing = Listing(
        files=_files(named), refused=[refused[name] for name in sorted(refused)], column=lists_read.column
    )
    if lists_read.any_container:
        listing.files = _with_containers_opened(list(listing.files), listing, wanted)
    return listing


class _Lists:
    """Reads lists one after another, and notes what is not a file's row."""

    def __init__(self, uris: Sequence[str], uri_column: str | None) -> None:
        self._uris, self._uri_column = uris, uri_column
        self.refused: dict[str, RefusedEntry] = {}
        self.column = ""
        self.any_container = False

    def tables(self) -> Iterator[pa.Table]:
        """Rows of _NAMED for all files that the lists name, in order."""
        files = self._named()
        first = 0
        while some := list(islice(files, _ROWS)):
            columns: list[Iterable[Any]] = [
                [file.uri.encode(errors="surrogateescape") for file in some],
                range(first, first + len(some)),
                [file.etag for file in some],
                [file.size_bytes for file in some],
                [file.modified for file in some],
            ]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, _NAMED, strict=True)]
            yield pa.Table.from_arrays(arrays, schema=_NAMED)
            first += len(some)

    def _named(self) -> Iterator[FileInfo]:
        for uri in self._uris:
            if lists.suffix_of(uri) == ".parquet" and self._uri_column is None:
                _refuse_sidecar(uri)
            try:
                yield from self._named_in(uri)
            except (ValueError, csv.Error, pa.ArrowException) as error:
                raise ValueError(f"{storage.redact(uri)} cannot be read as a list of URIs: {error}") from error

    def _named_in(self, uri: str) -> Iterator[FileInfo]:
        found = lists.read_list(uri, self._uri_column)
        self.column = found.column
        for entry in found.entries:
            file = file_of_entry(entry, uri)
            if isinstance(file, FileInfo):
                self.any_container = self.any_container or sources.is_container(file.uri)
                yield file
            else:
                self.refused[as_stored(file.uri)] = file


def _files(named: Spool) -> Iterator[FileInfo]:
    """The files of the sorted rows, each once: of equal names, that with the last place."""
    rows = (row for batch in named.batches() for row in batch.to_pylist())
    for uri, same in groupby(rows, key=lambda row: row["uri"]):
        row = max(same, key=lambda row: row["place"])
        yield FileInfo(
            uri=uri.decode(errors="surrogateescape"),
            size_bytes=row["size_bytes"],
            etag=row["etag"],
            modified=row["modified"],
        )


def _refuse_sidecar(list_uri: str) -> None:
    """Raises ValueError for a table that img2dataset writes beside a tar: it names where the images came from."""
    tar = list_uri.removesuffix(PurePosixPath(list_uri).suffix) + ".tar"
    if not storage.is_http(list_uri) and storage.exists(tar):
        raise ValueError(
            f"{storage.redact(list_uri)} describes the images in {storage.redact(tar)}, and its URLs are where they "
            f"came from: label {storage.redact(tar)} instead, or give --uri-column to fetch the URLs again"
        )


def _with_containers_opened(files: list[FileInfo], listing: Listing, wanted: Wanted) -> Iterator[FileInfo]:
    containers = {file.uri for file in files if sources.is_container(file.uri)}
    inside = {file.uri: file for file in files if sources.split(file.uri)[0] in containers - {file.uri}}
    found = set()
    for file in files:
        if file.uri in containers:
            for image in in_container(file, listing, wanted, is_listed=True):
                if image.uri in inside:
                    found.add(image.uri)
                yield image
        elif file.uri not in inside:
            yield file
    yield from (file for uri, file in inside.items() if uri not in found)
