"""Arrow tables as Parquet bytes, always with the same settings, so that the same rows are the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ddpm_seg import storage

# Rows hold pictures: a group of this many is some megabytes, small enough to read one mask and large enough to scan.
ROW_GROUP_SIZE = 256


def encode(table: pa.Table, *, row_group_size: int = ROW_GROUP_SIZE) -> bytes:
    """Parquet bytes of `table`, the schema's metadata included; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    options = {"version": "2.6", "compression": "zstd", "compression_level": 3}
    with pq.ParquetWriter(sink, table.schema, use_dictionary=True, write_statistics=True, **options) as writer:
        for start in range(0, table.num_rows, row_group_size):
            # One chunk a column: page boundaries follow chunks, which depend on how the table was put together.
            writer.write_table(table.slice(start, row_group_size).combine_chunks(), row_group_size)
    return sink.getvalue().to_pybytes()


def decode(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """The table that `encode` wrote, or some of its columns."""
    # ParquetFile, not read_table: the latter would add columns for key=value folders.
    return pq.ParquetFile(pa.BufferReader(data)).read(columns=columns)


@contextmanager
def open_parquet(uri: str) -> Iterator[pq.ParquetFile]:
    """A file of any store, of which only the asked columns travel."""
    with storage.open_file(uri) as file, pq.ParquetFile(file, pre_buffer=True) as parquet:
        yield parquet


def read_rows(uri: str, rows: np.ndarray, columns: list[str]) -> Iterator[pa.Table]:
    """These rows of a file, numbered from 0 and ascending: a table for each row group that has any, and no other is
    read."""
    with open_parquet(uri) as file:
        first = 0
        for group in range(file.num_row_groups):
            end = first + file.metadata.row_group(group).num_rows
            here = rows[(rows >= first) & (rows < end)] - first
            if len(here):
                yield file.read_row_group(group, columns=columns).take(here)
            first = end
