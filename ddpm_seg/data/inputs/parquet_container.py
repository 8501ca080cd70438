"""Parquet tables with a column of images: Hugging Face's, img2dataset's and our own `samples` among them."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ddpm_seg import storage
from ddpm_seg.data.inputs.container import UNCHOSEN, Choice, Kind, Member

USUAL_NAMES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "bytes", "content", "pixels")
"""Columns that are taken as the images without asking; else the only one of a suitable type."""
NEVER = ("mask", "confidence_map", "network_mask", "label", "annotation")
"""Columns of our own tables with pictures that are no inputs."""
ROWS_AT_ONCE = 8


class ParquetContainer:
    """An opened Parquet file. An image's name is the number of its row, after the column if that was chosen:
    `a.parquet#7`, `a.parquet#photo/7`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = pq.ParquetFile(file, page_checksum_verification=True)
        self._schema = self._file.schema_arrow

    def holds_images(self, choice: Choice) -> bool:
        if choice.image_column is None:
            return self._usual_column() is not None
        known = self._schema.names
        if choice.image_column not in known:
            return False
        if _bytes_of(self._schema.field(choice.image_column)) is None:
            kind = self._schema.field(choice.image_column).type
            raise ValueError(f"its column {choice.image_column!r} holds {kind}, expected bytes or struct<bytes, path>")
        return True

    def members(self, choice: Choice) -> Iterator[Member]:
        prefix = f"{choice.image_column}/" if choice.image_column is not None else ""
        return (
            Member(name=f"{prefix}{row}", start=row, size=0, end=row + 1) for row in range(self._file.metadata.num_rows)
        )

    def names(self) -> Iterator[str]:
        return (member.name for member in self.members(UNCHOSEN))

    def read(self, name: str, max_bytes: int) -> bytes:
        row = name.rpartition("/")[2]
        if not (row.isascii() and row.isdigit() and int(row) < self._file.metadata.num_rows):
            raise FileNotFoundError(errno.ENOENT, f"there is no row {name!r} in the table", name)
        member = Member(name=name, start=int(row), size=0, end=int(row) + 1)
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
                        yield _checked(cell, max_bytes)
                        member = next(wanted, None)
                    if member is None or member.start >= end:
                        break
            first = end
        if member is not None:
            raise ValueError(f"it ends before row {member.start}")

    def _cells(self, name: str, group: int) -> Iterator[Any]:
        """The bytes of a row group's cells, none for an empty one."""
        column = name.rpartition("/")[0] or self._usual_column() or ""
        if column not in self._schema.names:
            raise ValueError(f"it has no column {column!r}" if column else "it has no column of images")
        path = _bytes_of(self._schema.field(column))
        if path is None:
            raise ValueError(f"its column {column!r} does not hold images")
        # The file's own threads would decode more of the group than is asked for.
        for batch in self._file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[path], use_threads=False):
            for cell in batch.column(0).to_pylist():
                yield cell["bytes"] if isinstance(cell, dict) else cell

    def _usual_column(self) -> str | None:
        """The column of images, if there is one and no other could be meant."""
        suitable = [field.name for field in self._schema if _bytes_of(field) is not None and field.name not in NEVER]
        usual = next((name for name in USUAL_NAMES if name in suitable), None)
        return usual or (suitable[0] if len(suitable) == 1 else None)


PARQUET = Kind(
    suffixes=(".parquet",),
    open=lambda file: found if (found := ParquetContainer(file)).holds_images(UNCHOSEN) else None,
    errors=(pa.ArrowException, UnicodeDecodeError),
    open_indexed=ParquetContainer,
)


def _bytes_of(field: pa.Field[Any]) -> str | None:
    """The path of the leaf with the bytes, for a column that could hold images; None for others."""
    kind = field.type
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return f"{field.name}.bytes" if index >= 0 and _is_binary(kind.field(index).type) else None
    return field.name if _is_binary(kind) else None


def _is_binary(kind: pa.DataType) -> bool:
    return any(is_kind(kind) for is_kind in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))


def _checked(cell: Any, max_bytes: int) -> bytes | Exception:
    if cell is None:
        return ValueError("the row has no image: its cell is empty")
    if len(cell) > max_bytes:
        return storage.FileTooLargeError(errno.EFBIG, f"larger than the limit of {max_bytes} bytes", "")
    return bytes(cell)
