"""Parquet tables with a column of images: Hugging Face's, img2dataset's and our own `samples` among them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ddpm_seg.data.inputs import image_column
from ddpm_seg.data.inputs.container import UNCHOSEN, Choice, Kind, Member

ROWS_AT_ONCE = 8


class ParquetContainer:
    """An opened Parquet file. An image's name is the number of its row, after the column if that was chosen:
    `a.parquet#7`, `a.parquet#photo/7`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = pq.ParquetFile(file, page_checksum_verification=True)
        self._schema = self._file.schema_arrow

    def holds_images(self, choice: Choice) -> bool:
        return image_column.holds_images(self._schema, choice)

    def members(self, choice: Choice) -> Iterator[Member]:
        return image_column.members(self._file.metadata.num_rows, choice)

    def names(self) -> Iterator[str]:
        return (member.name for member in self.members(UNCHOSEN))

    def read(self, name: str, max_bytes: int) -> bytes:
        member = image_column.member_of_name(name, self._file.metadata.num_rows)
        (found,) = self.read_members([member], max_bytes)
        if isinstance(found, Exception):
            raise found
        return found

    def read_members(self, members: Sequence[Member], max_bytes: int) -> Iterator[bytes | Exception]:
        if not members:
            return
        wanted = iter(members)
        member = next(wanted, None)
        first = 0
        for group in range(self._file.num_row_groups):
            end = first + self._file.metadata.row_group(group).num_rows
            if member is not None and member.start < end:
                for row, cell in enumerate(self._cells(members[0].name, group), first):
                    if member is not None and row == member.start:
                        yield image_column.image_of_cell(cell, max_bytes)
                        member = next(wanted, None)
                    if member is None or member.start >= end:
                        break
            first = end
        if member is not None:
            raise ValueError(f"it ends before row {member.start}")

    def _cells(self, name: str, group: int) -> Iterator[Any]:
        """The cells of a row group."""
        path = image_column.path_of_bytes(self._schema, name)
        # The file's own threads would decode more of the group than is asked for.
        for batch in self._file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[path], use_threads=False):
            yield from batch.column(0).to_pylist()


PARQUET = Kind(
    suffixes=(".parquet",),
    open=lambda file: found if (found := ParquetContainer(file)).holds_images(UNCHOSEN) else None,
    errors=(pa.ArrowException, UnicodeDecodeError),
    open_indexed=ParquetContainer,
)
