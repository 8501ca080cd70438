"""Pictures in tables: masks, uncertainty maps and drawn images. They must be PNGs of the size in their row."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.data.decoding.formats import PILLOW_ERRORS
from ddpm_seg.data.decoding.images import DEFAULT_LIMITS, one_line

_HEADER = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_COLOR_TYPES = {0: "grey", 2: "RGB", 3: "indexed", 4: "grey + alpha", 6: "RGBA"}


class PictureError(ValueError):
    """A cell that does not hold the picture that its row describes."""


def picture_cell(pixels: NDArray[np.uint8], path: str | None = None) -> dict[str, Any]:
    """`pixels` (H, W) or (H, W, 3) uint8 as a table cell: a PNG, and the name of its file, if it has one."""
    return {"bytes": encode_png(pixels), "path": path}


def encode_png(array: NDArray[np.uint8]) -> bytes:
    """Encodes (H, W) grey or (H, W, 3) RGB uint8 as PNG; the same Pillow gives the same bytes for the same array."""
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise ValueError(f"expected (H, W) or (H, W, 3) uint8, got {array.shape} {array.dtype}")
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


def cell_bytes(cell: Mapping[str, Any] | None) -> bytes:
    """The PNG in a cell, not decoded; empty if there is none."""
    return (cell or {}).get("bytes") or b""


def read_mask(data: object, width: int, height: int) -> NDArray[np.uint8]:
    """Decodes an 8-bit grey PNG of `width` x `height` pixels to (H, W) uint8. Raises PictureError for anything else."""
    return _read(data, width, height, "grey")


def read_image(data: object, width: int, height: int) -> NDArray[np.uint8]:
    """Decodes an 8-bit RGB PNG of `width` x `height` pixels to (H, W, 3) uint8. Raises PictureError for anything
    else."""
    return _read(data, width, height, "RGB")


def row_mask(row: Mapping[str, Any], *, column: str = "mask", file: str = "") -> NDArray[np.uint8]:
    """A row's `column` as (H, W) uint8; the row needs `width` and `height`. Raises PictureError naming row and
    `file`."""
    return _of_row(row, column, "grey", file)


def row_image(row: Mapping[str, Any], *, file: str = "") -> NDArray[np.uint8]:
    """A row's `image` as (H, W, 3) uint8; the row needs `width` and `height`. Raises PictureError naming row and
    `file`."""
    return _of_row(row, "image", "RGB", file)


def _of_row(row: Mapping[str, Any], column: str, kind: str, file: str) -> NDArray[np.uint8]:
    cell = row[column]
    try:
        return _read(cell.get("bytes") if isinstance(cell, Mapping) else cell, row["width"], row["height"], kind)
    except PictureError as error:
        name = row.get("uri") or row.get("image_id") or "a row without a name"
        place = f" in {storage.redact(file)}" if file else ""
        raise PictureError(f"{column} of {one_line(storage.redact(str(name)))}{place}: {error}") from error


def _read(data: object, width: object, height: object, kind: str) -> NDArray[np.uint8]:
    # Check the header before decoding anything.
    if not isinstance(data, bytes) or not data:
        raise PictureError("there is none" if not data else f"holds {type(data).__name__}, expected the bytes of a PNG")
    if not data.startswith(_HEADER) or len(data) < 33:
        raise PictureError("is not a PNG")
    own_width, own_height, depth, color = struct.unpack_from(">IIBB", data, 16)
    if width is None and height is None:  # a table without sizes: any picture of moderate size is fine
        if own_width * own_height > DEFAULT_LIMITS.max_pixels:
            raise PictureError(f"is {own_width} x {own_height} pixels, its row does not say how many")
    elif (own_width, own_height) != (width, height):
        raise PictureError(f"is {own_width} x {own_height} pixels, its row says {width} x {height}")
    own_kind = _COLOR_TYPES.get(color, f"colour type {color}")
    if (own_kind, depth) != (kind, 8):
        raise PictureError(f"is a PNG of {depth}-bit {own_kind}, expected 8-bit {kind}")
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            return np.array(image)
    except (*PILLOW_ERRORS, Image.DecompressionBombError, MemoryError) as error:
        raise PictureError(f"is a PNG that cannot be read: {one_line(str(error))}") from error
