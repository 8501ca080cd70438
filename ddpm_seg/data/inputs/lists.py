"""Reads files that list images: text, CSV, TSV or Parquet, the last three also with S3 Inventory's columns.

Accepts what other tools write: any of three separators, a byte order mark, UTF-16. An invalid line becomes an entry
that says so, and never ends the list.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ddpm_seg import storage
from ddpm_seg.data.inputs.list_columns import ONLY_COLUMN, Columns, Entry, cell_text, find_columns
from ddpm_seg.printable import printable

TABLES = (".csv", ".tsv", ".parquet")
SUFFIXES = (".txt", *TABLES)
MAX_BYTES = 1_000_000_000
"""The most in a text, which is held in memory as a whole, and of names in one row group of a Parquet file."""
MAX_ENTRIES = 20_000_000
MAX_ROWS = 1_000_000_000
"""The most in a Parquet file, which is read batch by batch."""

_EXPECTED = "called uri, url or path (nor bucket and key, as in an S3 Inventory); rename the column with the names"
_SEPARATORS = (",", ";", "\t")
LONGEST = 8_192  # longer than any store's names
_MOST_LINES = 5  # in one quoted field
_BATCH = 8_192
_MARKS = (  # UTF-32's come first, as they begin with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ListFile:
    """`column` says, for people, where the names are; `entries` come one by one."""

    column: str
    entries: Iterable[Entry]
    has_verdicts: bool = False
    """Whether a column says what a person decided about each image."""


def suffix_of(uri: str) -> str:
    """The suffix of a file's name, in lower case."""
    return PurePosixPath(uri if storage.is_local(uri) else storage.redact(uri)).suffix.lower()


def read_list(uri: str, uri_column: str | None = None) -> ListFile:
    """The entries of a list file, in order, without blank ones. `uri_column` is the column with the names of a table.

    A Parquet file is read as its entries are asked for; a text must be in memory as a whole. Raises ValueError or
    pa.ArrowException if the file is not a list, also while its entries are read, and OSError if it cannot be read.
    """
    suffix = suffix_of(uri)
    if suffix == ".parquet":
        # A web server may send no parts of a file.
        whole = storage.is_http(uri)
        return _parquet(pa.BufferReader(_all_bytes(uri)) if whole else storage.open_file(uri), uri_column)
    text = _text(_all_bytes(uri))
    if text.count("\n") > MAX_ENTRIES:
        raise ValueError(f"it has more than {MAX_ENTRIES} lines; split it")
    return _lines(text) if suffix == ".txt" else _table(text, suffix, uri_column)


def entries_without_header(data: bytes, names: list[str]) -> Iterator[Entry]:
    """The entries of a CSV file whose columns have these names. Raises ValueError if none of them is expected."""
    columns = find_columns(names)
    if columns is None:
        raise ValueError(f"it has the columns {_shown(names)}, and none is {_EXPECTED}")
    return _with_header(_text(data).split("\n"), ",", columns, len(names))


def _all_bytes(uri: str) -> bytes:
    return storage.read_bytes(uri, max_bytes=MAX_BYTES)


def _text(data: bytes) -> str:
    """Decodes the bytes. Those that are not UTF-8 become surrogates: a local file's name may have such bytes."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data.decode(encoding, errors="surrogateescape" if encoding == "utf-8-sig" else "replace")
    start = data[:2000]
    if start.count(0) * 4 >= len(start) > 0:
        raise ValueError("it seems to be UTF-16 without a byte order mark; save it as UTF-8")
    return data.decode("utf-8", errors="surrogateescape")


def _lines(text: str) -> ListFile:
    # Only line feeds end a line: splitlines() would split names at a dozen other characters.
    lines = (line.strip() for line in text.split("\n"))
    entries = (Entry(text=line) for line in lines if line and line[0] != "#")
    return ListFile(column="one entry per line", entries=entries)


def _table(text: str, suffix: str, uri_column: str | None) -> ListFile:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), None)
    if first is None:
        raise ValueError("it is empty")
    lines = lines[first:]
    separators = ("\t",) if suffix == ".tsv" else _SEPARATORS
    for separator in separators:
        header = next(_records(lines[:1], separator))
        if isinstance(header, list) and (columns := find_columns(header, uri_column)):
            found = _with_header(lines[1:], separator, columns, len(header))
            return ListFile(column=columns.describe(header), entries=found, has_verdicts=columns.verdict is not None)
    if uri_column is not None:
        raise ValueError(f"it has no column {uri_column!r}; it has {_shown(next(_records(lines[:1], separators[0])))}")
    for separator in separators:
        widths = {len(record) for record in _records(lines[:100], separator) if isinstance(record, list)} - {0}
        if len(widths) == 1 and (width := widths.pop()) > 1:
            raise ValueError(
                f"it has {width} columns ({_shown(next(_records(lines[:1], separator)))}), and none is {_EXPECTED}"
            )
    return ListFile(column="the only column, without a header", entries=_one_column(lines, separators[0]))


def _with_header(lines: list[str], separator: str, columns: Columns, width: int) -> Iterator[Entry]:
    needed = max(columns.names())
    for record in _records(lines, separator):
        if isinstance(record, str):
            yield Entry(text=record[:LONGEST], fault="a quotation mark that is never closed")
        elif any(cell.strip() for cell in (record if len(record) <= needed else record[width:])):
            fault = f"{len(record)} columns where the header has {width}; a name with commas needs quotation marks"
            yield Entry(text=separator.join(record)[:LONGEST], fault=fault)
        elif len(record) > needed:
            entry = columns.entry(record + [""] * (width - len(record)), encoded=True)
            if entry is not None:
                yield entry


def _one_column(lines: list[str], separator: str) -> Iterator[Entry]:
    for record in _records(lines, separator):
        if isinstance(record, str):
            yield Entry(text=record[:LONGEST], fault="a quotation mark that is never closed")
        elif len(record) > 1:
            fault = f"{len(record)} columns where other lines have one; put a name with commas in quotation marks"
            yield Entry(text=separator.join(record)[:LONGEST], fault=fault)
        elif text := cell_text(record[0]) if record else "":
            yield Entry(text=text)


def _records(lines: list[str], separator: str) -> Iterator[list[str] | str]:
    """The cells of each record, none for a blank line; a line whose quotation mark is never closed comes as a
    string."""
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        if '"' not in line:
            yield line.split(separator) if line.strip() else []
            continue
        for more in range(_MOST_LINES):
            cells = _cells("\n".join([line, *lines[number : number + more]]), separator, strict=more > 0)
            if cells is not None:
                number += more
                yield cells
                break
        else:
            yield line


def _cells(record: str, separator: str, *, strict: bool) -> list[str] | None:
    """None if a quoted cell is still open at the end; with `strict`, also if text follows a closing quotation mark."""
    try:
        return next(csv.reader(io.StringIO(record, newline=""), delimiter=separator, strict=True))
    except csv.Error as error:
        if strict or "unexpected end" in str(error) or "field limit" in str(error):
            return None
    return next(csv.reader(io.StringIO(record, newline=""), delimiter=separator))


def _parquet(source: Any, uri_column: str | None) -> ListFile:
    file = pq.ParquetFile(source)
    schema = file.schema_arrow
    names = [name for name in schema.names if not re.fullmatch(r"__index_level_\d+__", name)]
    columns = find_columns(names, uri_column)
    if columns is None:
        if uri_column is not None:
            raise ValueError(f"it has no column {uri_column!r}; it has {_shown(names)}")
        if len(names) != 1:
            raise ValueError(f"it has {len(names)} columns ({_shown(names)}), and none is {_EXPECTED}")
        columns = ONLY_COLUMN
    used = [names[place] for place in columns.used()]
    for place in columns.names():
        if not _holds_text(kind := schema.field(names[place]).type):
            raise ValueError(f"column {names[place]!r} holds {kind}, not strings")
    _refuse_too_large(file.metadata, used)
    # As dictionaries, so that a name repeated a million times in a few bytes of the file is held once.
    as_dictionaries = [names[place] for place in columns.names()]
    file = pq.ParquetFile(source, read_dictionary=as_dictionaries, page_checksum_verification=True)
    return ListFile(
        column=columns.describe(names),
        entries=_rows(file, used, names, columns),
        has_verdicts=columns.verdict is not None,
    )


def _refuse_too_large(metadata: Any, used: list[str]) -> None:
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    sizes = (
        sum(
            group.column(number).total_uncompressed_size
            for number in range(group.num_columns)
            if group.column(number).path_in_schema.split(".")[0] in used
        )
        for group in groups
    )
    large = max(sizes, default=0)
    if metadata.num_rows > MAX_ROWS:
        raise ValueError(f"it has {metadata.num_rows} rows; split it")
    if large > MAX_BYTES:
        raise ValueError(f"it has {large} bytes of names in one row group; write it with smaller ones")


def _holds_text(kind: pa.DataType) -> bool:
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    text = pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view
    return any(is_kind(values) for is_kind in (*text, pa.types.is_binary, pa.types.is_large_binary))


def _rows(file: pq.ParquetFile, used: list[str], names: list[str], columns: Columns) -> Iterator[Entry]:
    for batch in file.iter_batches(_BATCH, columns=used):
        cells = {name: _values(batch.column(name)) for name in used}
        for number in range(batch.num_rows):
            entry = columns.entry([cells[name][number] if name in cells else None for name in names], encoded=False)
            if entry is not None:
                yield entry


def _values(column: pa.Array[Any]) -> list[Any]:
    if not isinstance(column, pa.DictionaryArray):
        return column.to_pylist()
    names = column.dictionary.to_pylist()
    return [None if place is None else names[place] for place in column.indices.to_pylist()]


def _shown(names: object) -> str:
    return ", ".join(repr(printable(str(name)))[:40] for name in names[:8]) if isinstance(names, list) else "…"
