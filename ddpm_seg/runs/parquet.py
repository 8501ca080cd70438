"""Arrow tables as Parquet bytes, always with the same settings, so that the same rows are the same bytes.

They are written with checksums, of each page and of the rest (`checksums`), which are compared when they are read.
Files without, which releases before wrote, are read as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddpm_seg import storage
from ddpm_seg.errors import StageError
from ddpm_seg.runs.checksums import check_whole, read_footer, seal

# Rows hold pictures: a group of this many is some megabytes, small enough to read one mask and large enough to scan.
ROW_GROUP_SIZE = 256


class DamagedFileError(ValueError):
    """A file of an output cannot be read, or does not hold what it should; the message names it."""

    def __init__(self, uri: str, reason: object, remedy: str = "") -> None:
        self.uri, self.remedy = uri, remedy
        self.reason = " ".join(str(reason).split()) or type(reason).__name__
        super().__init__(uri, self.reason, remedy)  # what pickle makes it of, on its way from a worker

    def __str__(self) -> str:
        return f"{storage.redact(self.uri)} cannot be read: {self.reason}" + (f"; {self.remedy}" if self.remedy else "")


@contextmanager
def damage_stops() -> Iterator[None]:
    """Makes a StageError of a file of the output that cannot be read: once that is mended, the same command goes on."""
    try:
        yield
    except DamagedFileError as error:
        raise StageError(str(error)) from error


def encode(table: pa.Table, *, row_group_size: int = ROW_GROUP_SIZE) -> bytes:
    """Parquet bytes of `table`, the schema's metadata included; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    options: dict[str, Any] = {
        "version": "2.6",
        "compression": "zstd",
        "compression_level": 3,
        "write_page_checksum": True,
    }
    with pq.ParquetWriter(sink, table.schema, use_dictionary=True, write_statistics=True, **options) as writer:
        for start in range(0, table.num_rows, row_group_size):
            # One chunk a column: page boundaries follow chunks, which depend on how the table was put together.
            writer.write_table(table.slice(start, row_group_size).combine_chunks(), row_group_size)
    return seal(memoryview(sink.getvalue()))


def decode(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """The table that `encode` wrote, or some of its columns. Raises what Arrow does for anything else."""
    pages_too = not check_whole(data)
    # ParquetFile, not read_table: the latter would add columns for key=value folders.
    return pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=pages_too).read(columns=columns)


def read_table(uri: str) -> pa.Table:
    """A whole file of any store. Raises DamagedFileError where it is not a Parquet file, or no longer whole."""
    data = storage.read_bytes(uri)
    with damage_named(uri):
        return decode(data)


@contextmanager
def open_parquet(uri: str) -> Iterator[pq.ParquetFile]:
    """A file of any store, of which only the asked columns travel.

    What Arrow cannot read, now or within the block, raises DamagedFileError.
    """
    with (
        storage.open_file(uri) as file,
        damage_named(uri),
        pq.ParquetFile(file, metadata=read_footer(file), pre_buffer=True, page_checksum_verification=True) as parquet,
    ):
        yield parquet


def read_columns(uri: str, columns: Sequence[str]) -> pa.Table:
    """Some columns of a file. Raises DamagedFileError where it cannot be read or has not all of them."""
    with open_parquet(uri) as file:
        require_columns(uri, file.schema_arrow, columns)
        return file.read(columns=list(columns))


def require_columns(uri: str, schema: pa.Schema, columns: Sequence[str]) -> None:
    """Raises DamagedFileError where a column is missing: Arrow would read the others and say nothing."""
    missing = [name for name in columns if name not in schema.names]
    if missing:
        raise DamagedFileError(uri, f"it has no column {missing[0]!r}; it has {', '.join(schema.names)}")


def read_rows(uri: str, rows: np.ndarray, columns: list[str]) -> Iterator[pa.Table]:
    """These rows of a file, numbered from 0 and ascending: a table for each row group that has any, and no other is
    read."""
    with open_parquet(uri) as file:
        require_columns(uri, file.schema_arrow, columns)
        first = 0
        for group in range(file.num_row_groups):
            end = first + file.metadata.row_group(group).num_rows
            here = rows[(rows >= first) & (rows < end)] - first
            if len(here):
                yield file.read_row_group(group, columns=columns).take(here)
            first = end


@contextmanager
def damage_named(uri: str) -> Iterator[None]:
    """Turns what Arrow raises over the content of a file into DamagedFileError; what the store raises stays."""
    try:
        yield
    except DamagedFileError:
        raise
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DamagedFileError(uri, error) from error
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise
        raise DamagedFileError(uri, error) from error  # Arrow's, over bytes that make no sense
