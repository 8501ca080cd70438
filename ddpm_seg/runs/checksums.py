"""Checksums inside a Parquet file for the parts that Parquet itself has none for: its footer and its page headers.

They lie between the last page and the footer, a gap that every reader skips because the footer says where each page is.
In order: a mark, the digest of all bytes before the mark, the digest of the footer. A file without the mark comes from
another program or from an earlier release, and is read without this check.
"""

from __future__ import annotations

import hashlib
import io
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

_MARK = b"ddpm_seg"
_DIGEST = 16
_SEAL = len(_MARK) + 2 * _DIGEST

_END = 8  # bytes at the end of every Parquet file: the length of the footer before them (4 bytes), then "PAR1"

# Bytes to read from a file's end first. Most footers are smaller; for a larger one a second read follows.
_TAIL = 64 * 1024


def seal(data: memoryview) -> bytes:
    """The Parquet file `data` with mark and digests inserted."""
    split = len(data) - _END - int.from_bytes(data[-_END:-4], "little")
    body, footer = data[:split], data[split:]
    return b"".join([body, _MARK, _digest(body), _digest(footer), footer])


def check_whole(data: bytes) -> bool:
    """Whether the file has digests, in which case they match. Raises ArrowInvalid if they do not match."""
    view = memoryview(data)
    start = len(data) - _footer_size(view)
    if start < _SEAL or view[start - _SEAL :][: len(_MARK)] != _MARK:
        return False
    _compare(view[start - 2 * _DIGEST :][:_DIGEST], view[: start - _SEAL], "its content")
    _compare(view[start - _DIGEST :][:_DIGEST], view[start:], "its footer")
    return True


def read_footer(file: BinaryIO) -> pq.FileMetaData:
    """Reads only a file's footer. Raises ArrowInvalid if it has a digest that does not match."""
    size = file.seek(0, io.SEEK_END)
    tail = _read(file, max(0, size - _TAIL), size)
    footer = _footer_size(tail)
    if footer + _SEAL > len(tail) < size:
        tail = _read(file, max(0, size - footer - _SEAL), size)
    view = memoryview(tail)
    start = len(tail) - footer
    if start >= _SEAL and view[start - _SEAL :][: len(_MARK)] == _MARK:
        _compare(view[start - _DIGEST :][:_DIGEST], view[start:], "its footer")
    return pq.read_metadata(pa.BufferReader(tail))


def _footer_size(tail: bytes | memoryview) -> int:
    """Size in bytes of the footer and the end of the file, as the file states it; may exceed the file's size."""
    return _END + int.from_bytes(tail[-_END:-4], "little") if len(tail) >= _END else len(tail)


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _compare(stored: memoryview, content: memoryview, what: str) -> None:
    if _digest(content) != stored:
        raise pa.ArrowInvalid(f"{what} is damaged: its checksum differs")


def _digest(data: memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()
