"""Arrow tables as Parquet bytes, always with the same settings, so that the same rows are the same bytes."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

# Rows hold pictures: a group of this many is some megabytes, small enough to read one mask and large enough to scan.
ROW_GROUP_SIZE = 256


def encode(table: pa.Table) -> bytes:
    """Parquet bytes of `table`, the schema's metadata included; equal tables give equal bytes."""
    sink = pa.BufferOutputStream()
    # One chunk a column: page boundaries follow chunks, which depend on how the table was put together.
    pq.write_table(
        table.combine_chunks(),
        sink,
        version="2.6",
        compression="zstd",
        compression_level=3,
        row_group_size=ROW_GROUP_SIZE,
        use_dictionary=True,
        write_statistics=True,
        store_schema=True,
    )
    return sink.getvalue().to_pybytes()


def decode(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """The table that `encode` wrote, or some of its columns."""
    # ParquetFile, not read_table: the latter would add columns for key=value folders.
    return pq.ParquetFile(pa.BufferReader(data)).read(columns=columns)
