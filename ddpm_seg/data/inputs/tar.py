"""Finds the members of an untrusted tar file by walking through its headers from the start.

A member may hold anything, even another tar: only a walk from the start of the file, or from the end of a member found
by such a walk, can tell a header from a member's bytes.
"""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from collections.abc import Iterator
from gzip import BadGzipFile, GzipFile
from typing import BinaryIO, cast

from ddpm_seg.data.inputs.container import Member
from ddpm_seg.data.inputs.lists import LONGEST

BLOCK = tarfile.BLOCKSIZE
MOST_EXTENSION = 1 << 20  # bytes of a long name or a PAX header, which are held in memory
MOST_ZEROS = 1 << 20  # after the last member; writers pad with 10 KB
MOST_SIZE = 1 << 60
MOST_UNPACKED, MOST_RATIO = 1 << 28, 200  # a gzipped file may unpack to that many bytes, or times its size

_GZIP = b"\x1f\x8b"
_RECORD = re.compile(rb"(\d{1,7}) ([^=\n]{1,256})=")
_PAX_TYPES = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_LONG_TYPES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)
_LINK_TYPES = (tarfile.LNKTYPE, tarfile.SYMTYPE)
_WITHOUT_DATA = (*_LINK_TYPES, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)


class TarError(ValueError):
    """A tar file that is damaged or cut off; the members before that are complete."""


def walk(file: BinaryIO, start: int = 0) -> Iterator[Member]:
    """Yields the files and links in a tar, in order, after `start`: 0, or the `end` of a member that an earlier walk
    found.

    Reads only forwards, in small pieces: buffer files that are far away. Seeks over the members' bytes if the file can
    seek. Raises TarError after the last complete member if the file is damaged, or ends without tar's end mark because
    it was cut off.
    """
    tape = _Tape(file, start)
    extended: dict[str, bytes] = {}
    while (block := _next_header(tape)) is not None:
        header = _parsed(block)
        if header.type in _PAX_TYPES:
            extended |= _pax_records(tape.extension(header.size))
        elif header.type in _LONG_TYPES:
            name = tape.extension(header.size).partition(b"\0")[0]
            if header.type == tarfile.GNUTYPE_LONGNAME:
                extended["path"] = name
        else:
            if header.type == tarfile.GNUTYPE_SPARSE:
                _skip_sparse_map(block, tape)
            member = _member(header, extended, tape)
            extended = {}
            if member is not None:
                yield member
    if extended:
        raise TarError("it ends in the middle of a member's headers")


def unpacked(file: BinaryIO) -> BinaryIO:
    """The file itself, or the unpacked data if it is gzipped, which can only be read forwards. The position is at the
    start."""
    begin = file.read(len(_GZIP))
    file.seek(0)
    return cast(BinaryIO, io.BufferedReader(_Gunzipped(file), 1 << 18)) if begin == _GZIP else file


class _Tape:
    """A file that is read forwards, with its position."""

    def __init__(self, file: BinaryIO, position: int) -> None:
        self._file, self._seeks = file, file.seekable()
        self._size = file.seek(0, io.SEEK_END) if self._seeks else MOST_SIZE
        if self._seeks:
            file.seek(position)
            self.position = position
        else:
            self.position = 0
            self.skip(position)

    def read(self, size: int) -> bytes:
        """Reads `size` bytes, fewer only at the end of the file."""
        parts = []
        while size > 0:
            try:
                part = self._file.read(size)
            except (EOFError, zlib.error, BadGzipFile) as error:
                raise TarError(f"its gzipped data is damaged: {error}") from error
            if not part:
                break
            parts.append(part)
            size -= len(part)
            self.position += len(part)
        return b"".join(parts)

    def skip(self, size: int) -> None:
        """Skips a member's bytes. Raises TarError if the file has fewer."""
        if self._seeks:
            if self.position + size > self._size:
                raise TarError("it ends in the middle of a member")
            self.position = self._file.seek(self.position + size)
            return
        while size > 0:
            part = len(self.read(min(size, 1 << 20)))
            if not part:
                raise TarError("it ends in the middle of a member")
            size -= part

    def extension(self, size: int) -> bytes:
        """The content of a header that extends the next one."""
        if not 0 <= size <= MOST_EXTENSION:
            raise TarError(f"it has a long name or PAX header of {size} bytes, over the limit of {MOST_EXTENSION}")
        data = self.read(_blocks(size))
        if len(data) < _blocks(size):
            raise TarError("it ends in the middle of a member's headers")
        return data[:size]


def _next_header(tape: _Tape) -> bytes | None:
    """The next header's block; None at the end. Concatenated tars are read as one."""
    zeros = 0
    while zeros <= MOST_ZEROS:
        block = tape.read(BLOCK)
        if len(block) < BLOCK:
            if not zeros:
                raise TarError("it ends without tar's end mark: it has been cut off")
            return None
        if any(block):
            # Ignore anything else after the end mark.
            return block if zeros < 2 * BLOCK or is_header(block) else None
        zeros += BLOCK
    return None


def is_header(block: bytes) -> bool:
    """Whether a block is a member's header, by its checksum."""
    try:
        return bool(_parsed(block))
    except TarError:
        return False


def _parsed(block: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise TarError(f"it has an invalid member header: {error}") from error


def _member(header: tarfile.TarInfo, extended: dict[str, bytes], tape: _Tape) -> Member | None:
    """The member that a header and its extensions describe, skipping its bytes; None for folders, devices and such."""
    size = header.size
    if "size" in extended:
        size = int(extended["size"]) if re.fullmatch(rb"\d{1,19}", extended["size"]) else -1
    if not 0 <= size < MOST_SIZE:
        raise TarError(f"{header.name!r} says that it has {size} bytes")
    name = _text(extended.get("GNU.sparse.name", extended.get("path", b""))) or header.name
    if len(name) > LONGEST:
        raise TarError(f"it has a name of {len(name)} characters, over the limit of {LONGEST}")
    fault = ""
    if header.type == tarfile.GNUTYPE_SPARSE or any(key.startswith("GNU.sparse.") for key in extended):
        fault = "it is sparse, which is not read"
    elif header.type in _LINK_TYPES:
        fault = f"it is a link to {_text(extended.get('linkpath', b'')) or header.linkname!r}, not a file"
    if header.type in _WITHOUT_DATA:
        size = 0
    start = tape.position
    tape.skip(_blocks(size))
    is_file = header.type in tarfile.REGULAR_TYPES and not name.endswith("/")
    if not is_file and not fault:
        return None
    return Member(name=name, start=start, size=size, end=tape.position, fault=fault)


def _skip_sparse_map(header: bytes, tape: _Tape) -> None:
    """Skips the blocks between an old GNU sparse header and the member's bytes; each says whether another follows."""
    more = bool(header[482])
    while more:
        block = tape.read(BLOCK)
        if len(block) < BLOCK:
            raise TarError("it ends in the middle of a member's headers")
        more = bool(block[504])


def _pax_records(data: bytes) -> dict[str, bytes]:
    """The records that matter here: path, linkpath, size, and whether the file is sparse."""
    found: dict[str, bytes] = {}
    position = 0
    while position < len(data) and data[position]:
        match = _RECORD.match(data, position)
        end = position + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(data) or data[end - 1] != 0x0A:
            raise TarError("it has a PAX header that cannot be read")
        key = match[2].decode("utf-8", "surrogateescape")
        if key in ("path", "linkpath", "size") or key.startswith("GNU.sparse."):
            found[key] = data[match.end() : end - 1]
        position = end
    return found


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _blocks(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


class _Gunzipped(io.RawIOBase):
    """The content of a gzip file. It cannot seek: going back would mean unpacking it from the start again."""

    def __init__(self, file: BinaryIO) -> None:
        self._packed, self._unpacked = file, 0
        self._file = GzipFile(fileobj=file, mode="rb")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._unpacked += len(data)
        if self._unpacked > max(MOST_UNPACKED, MOST_RATIO * self._packed.tell()):
            raise TarError(f"it unpacks to more than {MOST_RATIO} times its size")
        return len(data)
