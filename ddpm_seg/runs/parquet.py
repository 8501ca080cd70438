"""Reads and writes Arrow tables as Parquet, always with the same settings, so that equal rows give equal bytes.

Files are written with checksums of each page and of everything else (`checksums`), which are verified on reading.
Files of earlier releases have none, and are read without verification.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.errors import StageError
from ddpm_seg.runs.checksums import check_whole, read_footer, seal

# Rows contain pictures, so a row group of this size has a few megabytes: small enough to read one mask from, large
# enough to scan.
ROW_GROUP_SIZE = 256


class DamagedFileError(ValueError):
    """A file of an output cannot be read, or has the wrong content. The message names the file."""

    def __init__(self, uri: str, reason: object, remedy: str = "") -> None:
        self.uri, self.remedy = uri, remedy
        self.reason = " ".join(str(reason).split()) or type(reason).__name__
        super().__init__(uri, self.reason, remedy)  # pickle rebuilds the error from these when a worker sends it

    def __str__(self) -> str:
        return f"{storage.redact(self.uri)} cannot be read: {self.reason}" + (f"; {self.remedy}" if self.remedy else "")


@contextmanager
def damage_stops() -> Iterator[None]:
    """Turns a DamagedFileError into a StageError: once the file is repaired, the same command can continue."""
    try:
        yield
    except DamagedFileError as error:
        raise StageError(str(error)) from error


def encode(table: pa.Table, *, row_group_size: int = ROW_GROUP_SIZE) -> bytes:
    """Parquet bytes of `table`, including the schema's metadata; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    options: dict[str, Any] = {
        "version": "2.6",
        "compression": "zstd",
        "compression_level": 3,
        "write_page_checksum": True,
    }
    with pq.ParquetWriter(sink, table.schema, use_dictionary=True, write_statistics=True, **options) as writer:
        for start in range(0, table.num_rows, row_group_size):
            # Combine chunks: page boundaries follow them, and they depend on how the table was put together.
            writer.write_table(table.slice(start, row_group_size).combine_chunks(), row_group_size)
    return seal(memoryview(sink.getvalue()))


def decode(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """The table that `encode` wrote, or only some columns. Raises Arrow's errors for anything else."""
    pages_too = not check_whole(data)
    # Not pq.read_table: it would add columns for key=value folders.
    return pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=pages_too).read(columns=columns)


def read_table(uri: str) -> pa.Table:
    """Reads a whole file from any store. Raises DamagedFileError if it is not Parquet, or is damaged."""
    data = storage.read_bytes(uri)
    with damage_named(uri):
        return decode(data)


@contextmanager
def open_parquet(uri: str) -> Iterator[pq.ParquetFile]:
    """Opens a file in any store; reading from it transfers only the columns that are asked for.

    Raises DamagedFileError if Arrow cannot read the file, on opening or within the block.
    """
    with (
        storage.open_file(uri) as file,
        damage_named(uri),
        pq.ParquetFile(file, metadata=read_footer(file), pre_buffer=True, page_checksum_verification=True) as parquet,
    ):
        yield parquet


def read_columns(uri: str, columns: Sequence[str]) -> pa.Table:
    """Reads some columns of a file. Raises DamagedFileError if it cannot be read or lacks one of them."""
    with open_parquet(uri) as file:
        require_columns(uri, file.schema_arrow, columns)
        return file.read(columns=list(columns))


def require_columns(uri: str, schema: pa.Schema, columns: Sequence[str]) -> None:
    """Raises DamagedFileError if a column is missing: Arrow would silently read only the others."""
    missing = [name for name in columns if name not in schema.names]
    if missing:
        raise DamagedFileError(uri, f"its column {missing[0]!r} is missing; it has {', '.join(schema.names)}")


def read_rows(uri: str, rows: NDArray[np.int64], columns: list[str]) -> Iterator[pa.Table]:
    """Reads the rows of a file whose numbers, ascending from 0, are in `rows`: one table per row group that has any.

    Row groups without such rows are not read.
    """
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
    """Turns Arrow's errors about a file's content into DamagedFileError; errors of the store pass through."""
    try:
        yield
    except DamagedFileError:
        raise
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DamagedFileError(uri, error) from error
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise
        raise DamagedFileError(uri, error) from error  # Arrow raises a bare OSError for bytes that it cannot parse
