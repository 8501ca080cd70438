"""The column of images in a table, and the names of its rows as images: `7`, or `photo/7` if the column was chosen."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.data.inputs.container import Choice, Member
from ddpm_seg.data.inputs.list_columns import find_columns, may_name_images

USUAL_NAMES = ("image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "bytes", "content", "pixels")
"""Columns that are taken as the images without asking; else the only one of a suitable type, in a table that also has
the images' names the only struct: bytes there may be their hashes."""
NEVER = ("mask", "confidence_map", "network_mask", "label", "annotation")
"""Columns of our own tables with pictures that are no inputs."""
ADDED = "ddpm_seg_"
"""Beginning of the columns that we add to tables of others; no inputs either."""


def holds_images(schema: pa.Schema, choice: Choice) -> bool:
    """Whether a table has the chosen column, or a usual one. Raises ValueError if the chosen one holds other things."""
    if choice.image_column is None:
        return usual_column(schema) is not None
    if choice.image_column not in schema.names:
        return False
    if _bytes_of(schema.field(choice.image_column)) is None:
        kind = schema.field(choice.image_column).type
        raise ValueError(f"its column {choice.image_column!r} holds {kind}, expected bytes or struct<bytes, path>")
    return True


def members(rows: int, choice: Choice) -> Iterator[Member]:
    """Every row of a table as an image."""
    prefix = f"{choice.image_column}/" if choice.image_column is not None else ""
    return (Member(name=f"{prefix}{row}", start=row, size=0, end=row + 1) for row in range(rows))


def member_of_name(name: str, rows: int) -> Member:
    """Raises FileNotFoundError for a name that no row of a table with this number of rows has."""
    row = name.rpartition("/")[2]
    if not (row.isascii() and row.isdigit() and int(row) < rows):
        raise FileNotFoundError(errno.ENOENT, f"there is no row {name!r} in the table", name)
    return Member(name=name, start=int(row), size=0, end=int(row) + 1)


def path_of_bytes(schema: pa.Schema, name: str) -> str:
    """The path of the leaf with the bytes of the image `name`. Raises ValueError if there is none."""
    # Images that were planned as those of the only column with bytes stay readable.
    column = name.rpartition("/")[0] or usual_column(schema) or _only(_suitable(schema)) or ""
    if column not in schema.names:
        raise ValueError(f"it has no column {column!r}" if column else "it has no column of images")
    path = _bytes_of(schema.field(column))
    if path is None:
        raise ValueError(f"its column {column!r} does not hold images")
    return path


def usual_column(schema: pa.Schema) -> str | None:
    """The column of images, if there is one and no other could be meant."""
    suitable = _suitable(schema)
    usual = next((name for name in USUAL_NAMES if name in suitable), None)
    if usual is None and find_columns(schema.names) is not None:
        suitable = [field.name for field in schema if field.name in suitable and pa.types.is_struct(field.type)]
    return usual or _only(suitable)


def _suitable(schema: pa.Schema) -> list[str]:
    """The columns that could hold images."""
    return [
        field.name
        for field in schema
        if field.name not in NEVER
        and not field.name.startswith(ADDED)
        and not may_name_images(field.name)
        and _bytes_of(field) is not None
    ]


def _only(names: list[str]) -> str | None:
    return names[0] if len(names) == 1 else None


def image_of_cell(cell: Any, max_bytes: int) -> bytes | Exception:
    """The bytes of a cell, which may be a struct, or why it has none."""
    data = cell["bytes"] if isinstance(cell, dict) else cell
    if data is None:
        return ValueError("the row has no image: its cell is empty")
    if len(data) > max_bytes:
        return storage.FileTooLargeError(errno.EFBIG, f"larger than the limit of {max_bytes} bytes", "")
    return bytes(data)


def _bytes_of(field: pa.Field[Any]) -> str | None:
    """The path of the leaf with the bytes, for a column that could hold images; None for others."""
    kind = field.type
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return f"{field.name}.bytes" if index >= 0 and _is_binary(kind.field(index).type) else None
    return field.name if _is_binary(kind) else None


def _is_binary(kind: pa.DataType) -> bool:
    return any(is_kind(kind) for is_kind in (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view))
