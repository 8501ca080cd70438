"""Digests inside a Parquet file, for what Parquet itself has no checksum of: its footer, and the headers of its pages.

They stand between the last page and the footer, in a gap that every reader skips, because a footer says where each page
is: the mark, the digest of all bytes before it, the digest of all bytes after it. A file without the mark is of another
program, or of a release before this one, and is read as it is.
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

_END = 8  # of every Parquet file: the length of the footer before it (4 bytes), "PAR1"

# Read of a file's end at once: the footer of most, and more is asked for where it is larger.
_TAIL = 64 * 1024


def seal(data: memoryview) -> bytes:
    """A Parquet file with its digests in it."""
    split = len(data) - _END - int.from_bytes(data[-_END:-4], "little")
    body, footer = data[:split], data[split:]
    return b"".join([body, _MARK, _digest(body), _digest(footer), footer])


def check_whole(data: bytes) -> bool:
    """Whether a file says of all its bytes what they must be; raises ArrowInvalid where they are not that."""
    view = memoryview(data)
    start = len(data) - _footer_size(view)
    if start < _SEAL or view[start - _SEAL :][: len(_MARK)] != _MARK:
        return False
    _compare(view[start - 2 * _DIGEST :][:_DIGEST], view[: start - _SEAL], "its content")
    _compare(view[start - _DIGEST :][:_DIGEST], view[start:], "its footer")
    return True


def read_footer(file: BinaryIO) -> pq.FileMetaData:
    """What stands in a file's footer, compared with its digest where it has one; raises ArrowInvalid for another."""
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
    """Bytes of the footer with what ends the file, by what the file says, which may be more than it has."""
    return _END + int.from_bytes(tail[-_END:-4], "little") if len(tail) >= _END else len(tail)


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _compare(stored: memoryview, content: memoryview, what: str) -> None:
    if _digest(content) != stored:
        raise pa.ArrowInvalid(f"{what} is not what was written: its checksum differs")


def _digest(data: memoryview) -> bytes:
    return hashlib.blake2b(data, digest_size=_DIGEST).digest()
