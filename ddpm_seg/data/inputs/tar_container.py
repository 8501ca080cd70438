"""Tar files, gzipped or not, as containers of images: WebDataset's shards among them."""

from __future__ import annotations

import contextlib
import errno
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, BinaryIO, cast

from ddpm_seg import storage
from ddpm_seg.data.inputs.container import UNCHOSEN, Choice, Kind, Member
from ddpm_seg.data.inputs.tar import BLOCK, TarError, is_header, unpacked, walk
from ddpm_seg.data.inputs.tar_samples import images

BUFFER = 8 << 20  # a walk over a remote tar reads this much at a time, as each request costs tens of milliseconds
MOST_AT_ONCE = 64 << 20  # images that lie together, up to this size in all, are read in one request
WIDEST_GAP = 1 << 20  # what lies between two images, such as captions, is read too, unless it is larger


class TarContainer:
    """An opened tar. Only a walk from its start finds members, as a member's own bytes may look like a tar's."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._packed: bool | None = None
        self._found: dict[str, Member] = {}
        self._unseen: Iterator[Member] | None = None

    def holds_images(self, choice: Choice) -> bool:
        return True

    def members(self, choice: Choice) -> Iterator[Member]:
        return images(walk(self._tape()), choice.image_key)

    def all_members(self) -> Iterator[Member]:
        """All members, images or not."""
        return images(walk(self._tape()), every=True)

    def names(self) -> Iterator[str]:
        return (member.name for member in self.members(UNCHOSEN))

    def read(self, name: str, max_bytes: int) -> bytes:
        """See `Container.read`. Finds any member, not only images: `--image-key` may have chosen another."""
        member = self._find(name)
        if member.fault:
            raise ValueError(member.fault)
        size = min(member.size, max_bytes + 1)
        return _read(self._tape() if self._is_packed() else self._file, member.start, member.start + size)

    def read_members(self, members: Sequence[Member], max_bytes: int) -> Iterator[bytes | Exception]:
        spans = _spans(member for member in members if not _fault(member, max_bytes))
        tape, position = None, 0
        data, start, end = b"", 0, 0
        for member in members:
            if fault := _fault(member, max_bytes):
                yield fault
                continue
            if member.start + member.size > end:
                start, end = next(spans)
                if (found := self._read_span(start, end)) is not None:
                    data, start = found
                else:
                    tape = tape or self._tape()
                    data, position = _read(tape, start - position, end - position), end
            yield data[member.start - start : member.start - start + member.size]

    def _read_span(self, start: int, end: int) -> tuple[bytes, int] | None:
        """The bytes up to `end`, from `start` or a little before, and where they begin; None if the tar is gzipped."""
        if self._packed is None:
            with contextlib.suppress(TarError):
                data = _read(self._file, start - BLOCK, end)
                if is_header(data[:BLOCK]):  # the first member's: saves a look at the start of the tar
                    self._packed = False
                    return data, start - BLOCK
        return None if self._is_packed() else (_read(self._file, start, end), start)

    def _find(self, name: str) -> Member:
        if self._unseen is None:
            self._unseen = self.all_members()
        while name not in self._found:
            member = next(self._unseen, None)
            if member is None:
                raise FileNotFoundError(errno.ENOENT, f"there is no {name!r} in the tar", name)
            self._found[member.name] = member
        return self._found[name]

    def _tape(self) -> BinaryIO:
        """The tar from its start, unpacked."""
        return unpacked(cast(BinaryIO, io.BufferedReader(_View(self._file), BUFFER)))

    def _is_packed(self) -> bool:
        if self._packed is None:
            self._packed = not unpacked(cast(BinaryIO, io.BufferedReader(_View(self._file), BLOCK))).seekable()
        return self._packed


TAR = Kind(suffixes=(".tar", ".tar.gz", ".tgz"), open=TarContainer, open_indexed=TarContainer)


def _fault(member: Member, max_bytes: int) -> Exception | None:
    if member.fault:
        return ValueError(member.fault)
    if member.size > max_bytes:
        return storage.FileTooLargeError(errno.EFBIG, f"larger than the limit of {max_bytes} bytes", member.name)
    return None


def _spans(members: Iterable[Member]) -> Iterator[tuple[int, int]]:
    """The ranges of bytes (start, end) to read for members in the order of the file."""
    start = end = -1
    for member in members:
        last = member.start + member.size
        if start >= 0 and member.start - end <= WIDEST_GAP and last - start <= MOST_AT_ONCE:
            end = last
            continue
        if start >= 0:
            yield start, end
        start, end = member.start, last
    if start >= 0:
        yield start, end


def _read(file: BinaryIO, start: int, end: int) -> bytes:
    """The bytes from `start` to `end`; for a file that cannot seek, counted from its position."""
    if file.seekable():
        file.seek(start)
    else:
        while start > 0 and (skipped := len(file.read(min(start, 1 << 20)))):
            start, end = start - skipped, end - skipped
    data = file.read(end - start)
    if len(data) < end - start:
        raise TarError("it ends in the middle of a member")
    return data


class _View(io.RawIOBase):
    """A file with a position of its own, which stays open when the view is closed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._position = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_END:
            self._position = self._file.seek(offset, whence)
        else:
            self._position = offset + (self._position if whence == os.SEEK_CUR else 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._position)
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
