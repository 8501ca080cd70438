"""Reads, writes and lists files by URI, in any storage: the functions that all other packages use."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from ddpm_seg.storage import local, remote, remote_read
from ddpm_seg.storage.errors import StorageError
from ddpm_seg.storage.hosts import local_hosts_allowed
from ddpm_seg.storage.remote_file import RemoteFile
from ddpm_seg.storage.stores import is_s3
from ddpm_seg.storage.uris import is_local, join, normalize, redact


class FileTooLargeError(OSError):
    """A file is larger than the caller allows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileInfo:
    """What is known about a file without reading it; None for what the storage does not say."""

    uri: str
    size_bytes: int | None = None
    etag: str | None = None
    modified: datetime | None = None


def exists(uri: str) -> bool:
    """Whether a file or folder exists at `uri`."""
    uri = normalize(uri)
    return local.exists(Path(uri)) if is_local(uri) else remote.exists(uri)


def info(uri: str, *, listed: bool = False) -> FileInfo:
    """Size, ETag and time of one file. Raises FileNotFoundError, and IsADirectoryError for a folder.

    `listed` means that the URI comes from a list, not from the user: see `read_listed`.
    """
    uri = normalize(uri)
    if is_local(uri):
        status = Path(uri).stat()
        if not stat.S_ISDIR(status.st_mode):
            return _local_info(uri, status)
    else:
        found = remote.info(uri, guarded=listed and not local_hosts_allowed())
        if found["type"] != "directory":
            return _remote_info(uri, found)
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), redact(uri))


def list_files(prefix: str) -> Iterator[FileInfo]:
    """Lists every file below a folder or S3 prefix, recursively; for a file's own URI, that file.

    Sorted by URI for local disks and Amazon's S3; some other S3 servers sort folder by folder. Empty if nothing exists
    there. Holds one folder in memory at a time, on S3 a few pages of the listing. Follows links to local folders only
    if they lead out of `prefix`, so that each real folder is listed once; skips broken links and special files. Raises
    PermissionError for a folder that may not be read, FileNotFoundError for a missing bucket.
    """
    prefix = normalize(prefix)
    if is_local(prefix):
        return (_local_info(*found) for found in local.find(Path(prefix)))
    return _remote_files(remote.find(prefix))


def list_prefix(prefix: str) -> Iterator[FileInfo]:
    """Lists the S3 objects whose keys begin with that of `prefix`, whatever follows; nothing in other storage."""
    prefix = normalize(prefix)
    return iter(()) if is_local(prefix) else _remote_files(remote.find_beginning(prefix))


def list_matching_folders(pattern: str) -> Iterator[FileInfo]:
    """Lists every file in the folders that match a pattern (see `glob`), recursively (see `list_files`)."""
    pattern = normalize(pattern)
    if not is_local(pattern):
        return _remote_files(remote.glob(pattern, below=True))
    return (_local_info(*found) for found in local.find_in_matching(pattern))


def glob(pattern: str) -> list[FileInfo]:
    """The files that match a shell pattern, sorted by URI: `*`, `?`, `[…]`, and `**` for folders at any depth.

    On local disks `*` also matches names with a leading dot, and `**` does not follow links. Raises PermissionError for
    a folder that may not be read.
    """
    pattern = normalize(pattern)
    if not is_local(pattern):
        found = _remote_files(remote.glob(pattern))
    else:
        found = (_local_info(*found) for found in local.glob(pattern))
    return sorted(found, key=lambda file: file.uri)


def read_bytes(uri: str, *, max_bytes: int | None = None) -> bytes:
    """Reads a whole file. Raises FileTooLargeError if it has more than `max_bytes`, after reading at most one more."""
    uri = normalize(uri)
    limit = None if max_bytes is None else max_bytes + 1
    data = local.read(Path(uri), limit) if is_local(uri) else remote.read(uri, limit)
    if max_bytes is not None and len(data) > max_bytes:
        raise FileTooLargeError(errno.EFBIG, f"larger than the limit of {max_bytes} bytes", redact(uri))
    return data


def read_listed(uri: str, *, max_bytes: int) -> tuple[bytes, FileInfo]:
    """Reads a whole file whose URI comes from a list or table, which a stranger may have written.

    Also returns the version that was read: size, and ETag and time if the answer has them. Like `read_bytes`, but
    refuses system files (/proc, /sys) and, unless `hosts.allow_local_hosts`, hosts on this machine.
    """
    uri = normalize(uri)
    if is_local(uri):
        local.refuse_system_file(Path(uri))
        data, status = local.read_version(Path(uri), max_bytes + 1)
        version = _local_info(uri, status)
    else:
        data, found = remote_read.read_version(uri, max_bytes + 1, guarded=not local_hosts_allowed())
        version = _remote_info(uri, {**found, "size": len(data)})
    if len(data) > max_bytes:
        raise FileTooLargeError(errno.EFBIG, f"larger than the limit of {max_bytes} bytes", redact(uri))
    return data, version


def open_file(uri: str) -> BinaryIO:
    """Opens a file for reading; only the parts that are read are transferred. The file must not change meanwhile."""
    uri = normalize(uri)
    return Path(uri).open("rb") if is_local(uri) else cast(BinaryIO, RemoteFile(uri))


def open_listed(uri: str) -> tuple[BinaryIO, FileInfo]:
    """Opens a file whose URI a stranger may have written; also returns its version.

    Like `open_file`, but refuses what `read_listed` refuses.
    """
    uri = normalize(uri)
    if is_local(uri):
        local.refuse_system_file(Path(uri))
        file, status = local.open_version(Path(uri))
        return file, _local_info(uri, status)
    remote_file = RemoteFile(uri, guarded=not local_hosts_allowed())
    return cast(BinaryIO, remote_file), _remote_info(uri, remote_file.version)


def open_exactly(file: FileInfo) -> BinaryIO | None:
    """Opens this version of a file that `open_listed` has opened or listed before, without a request: each read then
    fails with StorageError if there is another version. None where a storage cannot do that; on S3 it can."""
    if not is_s3(file.uri) or file.etag is None or file.size_bytes is None:
        return None
    version = {"size": file.size_bytes, "ETag": f'"{file.etag}"'}
    return cast(BinaryIO, RemoteFile(file.uri, guarded=not local_hosts_allowed(), version=version))


def write_bytes(uri: str, data: bytes) -> None:
    """Writes or replaces a file; readers see either the old one or the new one, whole. Makes local folders."""
    uri = normalize(uri)
    if is_local(uri):
        local.write(Path(uri), data)
    else:
        remote.write(uri, data)


def create_bytes(uri: str, data: bytes) -> bool:
    """Writes a file unless one exists; of all processes that race for a name, exactly one gets True.

    False means that a file exists and was left unchanged, whatever its content. If an answer was lost and the request
    retried, the result is still right on local disks and S3; on other stores False may then mean that this call's own
    file exists, so read it back if that matters.
    """
    uri = normalize(uri)
    return local.create(Path(uri), data) if is_local(uri) else remote.create(uri, data)


def delete(uri: str) -> None:
    """Deletes a file, or a folder or prefix with everything in it. Does nothing if it does not exist."""
    uri = normalize(uri)
    if is_local(uri):
        local.delete(Path(uri))
    else:
        remote.delete(uri)


def delete_unfinished(folder: str) -> None:
    """Deletes temporary files that killed writers left directly in a folder. No writer may be at work there."""
    folder = normalize(folder)
    if is_local(folder):
        local.delete_unfinished(Path(folder))
    else:
        remote.delete_unfinished(folder)


def check_writable(uri: str) -> None:
    """Raises StorageError, with the place and the reason, unless files can be created and deleted below `uri`."""
    uri = normalize(uri)
    probe = join(uri, local.temporary_name())
    try:
        if not create_bytes(probe, b"ddpm_seg: may this folder be written?\n"):
            raise StorageError("the storage claims that a file with a new random name exists already")
        delete(probe)
    except OSError as error:
        raise StorageError(f"{redact(uri)} is not writable: {_reason(uri, error)}") from None


def _reason(uri: str, error: OSError) -> str:
    if is_local(uri):
        if isinstance(error, NotADirectoryError | FileExistsError):
            return "a part of the path is a file, not a folder"
        return str(error.strerror or error)
    if isinstance(error, FileNotFoundError | PermissionError):
        return str(error.strerror)
    return re.sub(r"^.*?\.ddpm_seg-[0-9a-f]{32}\.tmp: ", "", str(error))


def _remote_info(uri: str, found: dict[str, Any]) -> FileInfo:
    modified = found.get("LastModified") or found.get("created")
    if isinstance(found.get("Last-Modified"), str):
        with suppress(ValueError):
            modified = parsedate_to_datetime(found["Last-Modified"])
    return FileInfo(
        uri=uri,
        size_bytes=found.get("size"),
        etag=(found.get("ETag") or "").removeprefix("W/").strip('"') or None,
        modified=modified.astimezone(timezone.utc) if isinstance(modified, datetime) else None,
    )


def _remote_files(rows: Iterable[remote.Row]) -> Iterator[FileInfo]:
    return (_remote_info(*row) for row in rows if not local.is_temporary(row[0].rpartition("/")[2]))


def _local_info(path: str, status: os.stat_result) -> FileInfo:
    # Keep full precision, which float seconds would lose: the time distinguishes versions of a file.
    seconds, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
    modified = datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=nanoseconds // 1000)
    return FileInfo(uri=path, size_bytes=status.st_size, modified=modified)
