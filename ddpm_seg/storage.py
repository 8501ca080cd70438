"""Files under one kind of name: a local path, `s3://…`, `https://…` or whatever else fsspec can open.

Local paths are plain absolute paths, taken literally: no `~`, no `%20`, no `::`, whatever characters a name has (names
that are not UTF-8 are Python strings with surrogate escapes). Everything else goes through fsspec; `s3fs` and `aiohttp`
are imported only when such a URI is met. Credentials and endpoints come from the environment or the machine's role
(`AWS_ENDPOINT_URL`, `AWS_ACCESS_KEY_ID`, …), never from URIs, arguments or pickles.

Writes are whole or absent: nobody ever reads half a file. Errors are `OSError`s whose text has no credentials in it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ddpm_seg import remote_storage
from ddpm_seg.remote_storage import StorageError, redact

__all__ = [
    "FileInfo",
    "FileTooLargeError",
    "StorageError",
    "check_writable",
    "create_bytes",
    "delete",
    "exists",
    "glob",
    "info",
    "is_local",
    "join",
    "list_files",
    "normalize",
    "read_bytes",
    "redact",
    "write_bytes",
]

_TEMPORARY = re.compile(r"\.ddpm_seg-[0-9a-f]{32}\.tmp")
# What stat() says of a name that went away since it was listed, or of a link that leads nowhere.
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


class FileTooLargeError(OSError):
    """A file is larger than the caller allows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileInfo:
    """What is known of a file without reading it; `None` is what the storage does not tell."""

    uri: str
    size_bytes: int | None = None
    etag: str | None = None
    modified: datetime | None = None


def is_local(uri: str) -> bool:
    """Whether `uri` is a path (or a `file://` URI) of this machine."""
    return remote_storage.scheme(uri) in ("", "file")


def normalize(uri: str) -> str:
    """The one spelling of a URI: local and `file://` to an absolute path, remote as it is, without a trailing slash.

    `file://` URIs are percent-decoded (`Path.as_uri` encodes), plain paths are not. Raises ValueError for an empty name
    and for credentials in any but an http(s) URI.
    """
    if not uri:
        raise ValueError("an empty path or URI: expected a local path, s3://bucket/prefix or https://host/path")
    scheme = remote_storage.scheme(uri)
    if scheme == "file":
        host, slash, path = uri[len("file://") :].partition("/")
        if not slash or host not in ("", "localhost"):
            raise ValueError(f"{uri!r} is not an absolute file URI: expected file:///folder/name")
        return _absolute("/" + unquote(path, errors="surrogateescape"))
    if not scheme:
        return _absolute(uri)
    uri = scheme + uri[len(scheme) :]
    if remote_storage.is_http(uri):
        return uri if re.search("[?#]", uri) else uri.rstrip("/")
    if redact(uri) != uri:
        raise ValueError(f"{redact(uri)}: credentials do not belong in a URI; set them in the environment")
    return uri.rstrip("/")


def _absolute(path: str) -> str:
    return os.path.abspath(path)  # noqa: PTH100  Path.resolve() would replace links by what they lead to


def join(base: str, *parts: str) -> str:
    """`base/part/part`, with one slash between them."""
    return "/".join([base.rstrip("/"), *(part.strip("/") for part in parts)])


def exists(uri: str) -> bool:
    """Whether a file or a folder stands at `uri`."""
    uri = normalize(uri)
    return Path(uri).exists() if is_local(uri) else remote_storage.exists(uri)


def info(uri: str) -> FileInfo:
    """Size, ETag and time of one file. Raises FileNotFoundError, and IsADirectoryError for a folder."""
    uri = normalize(uri)
    if is_local(uri):
        status = Path(uri).stat()
        if not stat.S_ISDIR(status.st_mode):
            return _local_info(uri, status)
    else:
        found = remote_storage.info(uri)
        if found["type"] != "directory":
            return _remote_info(uri, found)
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), redact(uri))


def list_files(prefix: str) -> Iterator[FileInfo]:
    """Every file below the folder or S3 prefix, recursively, sorted by URI; a file's own URI gives that file.

    Nothing there: no rows. Locally one folder at a time is held in memory, links to folders are followed unless they
    lead back to a folder that they are in, broken links and special files are left out. A folder that may not be read
    raises PermissionError, a missing bucket FileNotFoundError.
    """
    prefix = normalize(prefix)
    return _walk(Path(prefix)) if is_local(prefix) else iter(_remote_files(remote_storage.find(prefix)))


def glob(pattern: str) -> list[FileInfo]:
    """The files matching a shell pattern, sorted by URI: `*`, `?`, `[…]`, and `**` for folders at any depth.

    Locally `*` takes names with a leading dot too, and `**` follows no links.
    """
    pattern = normalize(pattern)
    if not is_local(pattern):
        return _remote_files(remote_storage.glob(pattern))
    files = (_file_at(path) for path in Path("/").glob(pattern.lstrip("/")))
    return sorted((file for file in files if file is not None), key=lambda file: file.uri)


def read_bytes(uri: str, *, max_bytes: int | None = None) -> bytes:
    """The whole file. Over `max_bytes` raises FileTooLargeError, having read at most one byte more than that."""
    uri = normalize(uri)
    limit = None if max_bytes is None else max_bytes + 1
    data = _read_local(Path(uri), limit) if is_local(uri) else remote_storage.read(uri, limit)
    if max_bytes is not None and len(data) > max_bytes:
        raise FileTooLargeError(errno.EFBIG, f"larger than the limit of {max_bytes} bytes", redact(uri))
    return data


def write_bytes(uri: str, data: bytes) -> None:
    """Write a file, replacing what was there; readers see the old one or the new one, whole. Makes local folders."""
    uri = normalize(uri)
    if not is_local(uri):
        remote_storage.write(uri, data)
        return
    path = Path(uri)
    with _temporary_beside(path, data) as temporary:
        temporary.replace(path)
        _sync_folder(path.parent)


def create_bytes(uri: str, data: bytes) -> bool:
    """Write a file unless one stands there: of all that race for a name, one gets True and its bytes stay, whole.

    False means that a file stands there, left as it was, be its content equal or not. It may even be this caller's own,
    where a store's answer was lost and the request repeated: read it back where that matters.
    """
    uri = normalize(uri)
    return _create_local(Path(uri), data) if is_local(uri) else remote_storage.create(uri, data)


def delete(uri: str) -> None:
    """Delete a file, or a folder or prefix with all that is in it; nothing there is fine."""
    uri = normalize(uri)
    if not is_local(uri):
        remote_storage.delete(uri)
        return
    path = Path(uri)
    with suppress(FileNotFoundError, NotADirectoryError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def check_writable(uri: str) -> None:
    """Raise StorageError, naming the place and the reason, unless files can be created and deleted below `uri`."""
    uri = normalize(uri)
    probe = join(uri, _temporary_name())
    try:
        if not create_bytes(probe, b"ddpm_seg: may this folder be written?\n"):
            raise StorageError("it says that a file with a fresh random name exists")
        delete(probe)
    except OSError as error:
        raise StorageError(f"{redact(uri)} is not writable: {_reason(uri, error)}") from None


def _reason(uri: str, error: OSError) -> str:
    if is_local(uri):
        if isinstance(error, NotADirectoryError | FileExistsError):
            return "a part of the path is a file, not a folder"
        return str(error.strerror or error)
    if isinstance(error, FileNotFoundError):
        return "the bucket does not exist"
    if isinstance(error, PermissionError):
        remedy = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY (or the role) and the bucket's policy"
        return f"access was refused ({error.strerror}); {remedy}"
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


def _remote_files(rows: dict[str, dict[str, Any]]) -> list[FileInfo]:
    kept = sorted(uri for uri in rows if not _TEMPORARY.fullmatch(uri.rpartition("/")[2]))
    return [_remote_info(uri, rows[uri]) for uri in kept]


def _local_info(path: str, status: os.stat_result) -> FileInfo:
    # From whole nanoseconds: a float of seconds cannot hold them, and the time tells versions of a file apart.
    seconds, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
    modified = datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=nanoseconds // 1000)
    return FileInfo(uri=path, size_bytes=status.st_size, modified=modified)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return None
        raise


def _file_at(path: Path, status: os.stat_result | None = None) -> FileInfo | None:
    """A regular file, followed through links; None for anything else, one of this module's unfinished files too."""
    status = status or _stat(path)
    if status is None or not stat.S_ISREG(status.st_mode) or _TEMPORARY.fullmatch(path.name):
        return None
    return _local_info(str(path), status)


def _walk(path: Path, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[FileInfo]:
    """Files at and below `path`, sorted by full path; `above` are the folders on the way here, by device and inode."""
    status = _stat(path)
    if status is None:
        return
    if not stat.S_ISDIR(status.st_mode):
        file = _file_at(path, status)
        if file is not None:
            yield file
        return
    folder = (status.st_dev, status.st_ino)
    if folder in above:
        return
    with os.scandir(path) as entries:
        # A folder sorts as its contents do, with the slash: "a-b" < "a/x" < "ab".
        names = sorted(entry.name + "/" if _is_folder(entry) else entry.name for entry in entries)
    for name in names:
        yield from _walk(path / name, above | {folder})


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _read_local(path: Path, limit: int | None) -> bytes:
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise StorageError(f"{path}: not a regular file")  # opening a named pipe would wait for ever
    with path.open("rb") as file:
        return file.read() if limit is None else file.read(limit)


def _temporary_name() -> str:
    return f".ddpm_seg-{uuid.uuid4().hex}.tmp"


@contextmanager
def _temporary_beside(path: Path, data: bytes) -> Iterator[Path]:
    """A synced file with `data` in the folder of `path`, under a name that listings leave out; gone afterwards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / _temporary_name()
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _create_local(path: Path, data: bytes) -> bool:
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if os.path.lexists(path):
        return False
    with _temporary_beside(path, data) as temporary:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            # Two names mean that our link was made after all: NFS repeats a request whose answer was lost.
            if temporary.stat().st_nlink != 2:
                return False
        _sync_folder(path.parent)
    return True


def _sync_folder(folder: Path) -> None:
    """Make a new name survive a power cut, as the content under it already does."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
