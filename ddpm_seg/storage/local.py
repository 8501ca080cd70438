"""The local half of `storage`: works on absolute paths of this machine; raises `OSError`s that name the file."""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ddpm_seg.storage.errors import StorageError
from ddpm_seg.storage.local_glob import NOTHING_THERE, matches

_TEMPORARY = re.compile(r"\.ddpm_seg-[0-9a-f]{32}\.tmp")

# What file systems without hard links answer: exFAT, many network shares, buckets that are mounted as folders.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


def temporary_name() -> str:
    """A new random name for an unfinished file or a probe."""
    return f".ddpm_seg-{uuid.uuid4().hex}.tmp"


def is_temporary(name: str) -> bool:
    """Whether `temporary_name` made `name`; listings skip such files."""
    return _TEMPORARY.fullmatch(name) is not None


def exists(path: Path) -> bool:
    """Whether a file or folder is there; under a name that is too long for one there is none."""
    try:
        return _stat(path) is not None
    except ValueError:  # a null byte
        return False


def find(path: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Lists the files at and below `path`, sorted by full path.

    Each real folder is listed once: links to another folder below `path` are skipped.
    """
    status = _stat(path)
    if status is not None and not stat.S_ISDIR(status.st_mode):
        if _is_file(path, status):
            yield str(path), status
    elif status is not None:
        yield from _walk(path, status)


def find_in_matching(pattern: str) -> Iterator[tuple[str, os.stat_result]]:
    """Lists the files below the folders that match, each once."""
    seen: set[str] = set()
    for folder in sorted(matches(pattern)):
        status = _stat(folder)
        if status is not None and stat.S_ISDIR(status.st_mode):
            for path, found in _walk(folder, status):
                if path not in seen:
                    seen.add(path)
                    yield path, found


def _walk(top: Path, status: os.stat_result) -> Iterator[tuple[str, os.stat_result]]:
    real_top = os.path.realpath(top)
    seen = {_identity(status, "")}
    waiting = [_names(top, real_top)]  # no recursion: folders may be nested deeper than Python's stack allows
    while waiting:
        path = next(waiting[-1], None)
        if path is None:
            waiting.pop()
            continue
        found = _stat(path)
        if found is None:
            continue
        if stat.S_ISDIR(found.st_mode):
            identity = _identity(found, str(path)[len(str(top)) :])
            if identity not in seen:
                seen.add(identity)
                waiting.append(_names(path, real_top))
        elif _is_file(path, found):
            yield str(path), found


def _names(folder: Path, real_top: str) -> Iterator[Path]:
    """The entries of a folder, sorted, without links to folders that the walk reaches by their real names."""
    with os.scandir(folder) as entries:
        # A folder sorts as its contents do, with the slash: "a-b" < "a/x" < "ab".
        names = sorted(entry.name + "/" if _is_folder(entry) else entry.name for entry in entries)
    for name in names:
        path = folder / name
        if name.endswith("/") and path.is_symlink():
            target = os.path.realpath(path) + "/"
            below = target.startswith(real_top.rstrip("/") + "/")
            # Keep a link into a hidden folder, such as git-sync makes: by its real name its content is hidden.
            if below and "/." not in target[len(real_top) :]:
                continue
        yield path


def _identity(status: os.stat_result, name: str) -> tuple[int, int, bool]:
    """Identifies a folder for `_walk`. A hidden and a visible path to one folder count as two (see `_names`)."""
    return status.st_dev, status.st_ino, "/." in name


def glob(pattern: str) -> Iterator[tuple[str, os.stat_result]]:
    """Lists the files that match, in no particular order."""
    for path in matches(pattern):
        status = _stat(path)
        if status is not None and _is_file(path, status):
            yield str(path), status


def read(path: Path, limit: int | None) -> bytes:
    """Reads the first `limit` bytes, or all if that is None."""
    return read_version(path, limit)[0]


def read_version(path: Path, limit: int | None) -> tuple[bytes, os.stat_result]:
    """Reads like `read`, and also returns the status of the file that was read."""
    file, status = open_version(path)
    with file:
        # `read(limit)` allocates `limit` bytes, even for a small file.
        return file.read() if limit is None or status.st_size < limit else file.read(limit), status


def open_version(path: Path) -> tuple[BinaryIO, os.stat_result]:
    """Opens a regular file for reading; also returns its status."""
    _refuse_special(path, path.stat())
    # Open without blocking and check again: a named pipe that has replaced the file would block forever.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    try:
        status = os.fstat(file.fileno())
        _refuse_special(path, status)
    except BaseException:
        file.close()
        raise
    return file, status


def refuse_system_file(path: Path) -> None:
    """Raises StorageError for kernel files: they are no images, may hold secrets, and reading them may block."""
    if os.path.realpath(path).startswith(("/proc/", "/sys/")):
        raise StorageError(f"{path}: a system file, not an image")


def _refuse_special(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        raise StorageError(f"{path}: not a regular file")


def write(path: Path, data: bytes) -> None:
    with _temporary_beside(path, data) as temporary:
        temporary.replace(path)
        _sync_folder(path.parent)


def create(path: Path, data: bytes) -> bool:
    """Writes unless something exists at `path`: making a hard link is atomic, and one of several processes succeeds.

    On a file system without hard links the last one succeeds of several that write in the same instant.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if os.path.lexists(path):
        return False
    with _temporary_beside(path, data) as temporary:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            # Two links mean that ours was made after all: NFS retries a request whose answer was lost.
            if temporary.stat().st_nlink != 2:
                return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if os.path.lexists(path):
                return False
            temporary.replace(path)
        _sync_folder(path.parent)
    return True


def delete(path: Path) -> None:
    """Deletes a file, or a folder with everything in it. Does nothing if it does not exist."""
    with suppress(FileNotFoundError, NotADirectoryError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def delete_unfinished(folder: Path) -> None:
    """Deletes the temporary files directly in a folder."""
    for path in folder.glob(".*.tmp"):
        if is_temporary(path.name):
            path.unlink(missing_ok=True)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return None
        raise


def _is_file(path: Path, status: os.stat_result) -> bool:
    """Whether this is a regular file, and not an unfinished one that a killed writer left."""
    return stat.S_ISREG(status.st_mode) and not is_temporary(path.name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


@contextmanager
def _temporary_beside(path: Path, data: bytes) -> Iterator[Path]:
    """Gives the block a temporary file with `data`, synced to disk, in the folder of `path`; deletes it afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / temporary_name()
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    except OSError as error:
        # A full disk's error names no file, other errors name the temporary one, which means nothing to the user.
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Makes a new file name survive a power cut; the content is synced already."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
