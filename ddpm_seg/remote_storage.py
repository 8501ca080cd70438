"""What `storage` does with URIs that are not local: fsspec file systems, and errors without credentials in them."""

from __future__ import annotations

import errno
import functools
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

import fsspec

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
# `user:password@` before the host. The second form is a secret with a bare "/" in it, as AWS secret keys often have:
# what follows the colon is no port.
_USERINFO = re.compile(r"(?<=://)(?:[^/?#\s]*@|[^/?#@:\[\s]*:(?!\d*(?:[/?#\s]|$))[^@\s]*@)")
_HTTP_QUERY = re.compile(r"(https?://[^\s?#'\"]*)[?#][^\s'\"]*", re.IGNORECASE)
_EXTRAS = {"s3": "s3", "s3a": "s3", "http": "https", "https": "https"}


class StorageError(OSError):
    """Storage that cannot be used as asked; the message is one line, with no credentials in it."""


def scheme(uri: str) -> str:
    """`s3` of `s3://bucket/key`; empty for a plain path."""
    match = _SCHEME.match(uri)
    return match[1].lower() if match else ""


def is_http(uri: str) -> bool:
    return scheme(uri) in ("http", "https")


def redact(uri: str) -> str:
    """`uri` for a log, an error or a table: without `user:password@`, and without query or fragment for http(s)."""
    if not scheme(uri):
        return uri
    return re.sub(r"^(https?://[^?#]*)[?#].*", r"\1", _USERINFO.sub("", uri, count=1), flags=re.DOTALL | re.IGNORECASE)


def exists(uri: str) -> bool:
    with clear_errors(uri):
        return bool(_filesystem(uri).exists(_name(uri)))


def info(uri: str) -> dict[str, Any]:
    """fsspec's row for a file or folder: type, size, and per storage ETag, LastModified, Last-Modified."""
    with clear_errors(uri):
        try:
            return _filesystem(uri).info(_name(uri))
        except FileNotFoundError as error:
            # fsspec says so of every failed http(s) request, a refused one or an unknown host too.
            if is_http(uri) and error.__cause__ is not None and getattr(error.__cause__, "status", None) != 404:
                raise error.__cause__ from None
            raise


def find(prefix: str) -> dict[str, dict[str, Any]]:
    """URI to fsspec's row of every file below a prefix."""
    with clear_errors(prefix):
        return _by_uri(prefix, _listable(prefix).find(prefix, detail=True))


def glob(pattern: str) -> dict[str, dict[str, Any]]:
    """URI to fsspec's row of every file that matches."""
    with clear_errors(pattern):
        return _by_uri(pattern, _listable(pattern).glob(pattern, detail=True))


def read(uri: str, limit: int | None) -> bytes:
    """The first `limit` bytes, or all."""
    with clear_errors(uri):
        filesystem = _filesystem(uri)
        name = _name(uri)
        if limit is None:
            return filesystem.cat_file(name)
        if is_http(uri):
            return _read_stream(filesystem, name, limit)
        try:
            return filesystem.cat_file(name, start=0, end=limit)
        except OSError:
            # An empty object has no first byte to ask for: S3 answers "range not satisfiable".
            if filesystem.info(name)["size"] == 0:
                return b""
            raise


def write(uri: str, data: bytes) -> None:
    with clear_errors(uri):
        _listable(uri).pipe_file(uri, data)


def create(uri: str, data: bytes) -> bool:
    """Write unless something stands there (`If-None-Match: *` on S3, for a multipart upload too)."""
    with clear_errors(uri):
        try:
            _listable(uri).pipe_file(uri, data, mode="create")
        except FileExistsError:
            return False
        except NotImplementedError:
            raise StorageError(f"{redact(uri)}: this storage cannot create a file only if it is absent") from None
        except OSError as error:
            if _precondition_failed(error):
                return False
            raise
    return True


def delete(uri: str) -> None:
    """Delete the file and everything below it as a prefix."""
    with clear_errors(uri):
        filesystem = _listable(uri)
        bucket_only = "/" not in uri.partition("://")[2]
        # One by one: fsspec's rm() would take a "*" in a name for a pattern. A file may stand beside its own prefix.
        for name in [*filesystem.find(uri), *([] if bucket_only else [uri])]:
            with suppress(FileNotFoundError):
                filesystem.rm_file(name)


@contextmanager
def clear_errors(uri: str) -> Iterator[None]:
    """Errors of s3fs, botocore and aiohttp as OSErrors that name the redacted URI; the originals quote signed URLs."""
    try:
        yield
    except StorageError:
        raise
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), redact(uri)) from None
    except PermissionError as error:
        raise PermissionError(errno.EACCES, _one_line(error), redact(uri)) from None
    except _library_errors() as error:
        if getattr(error, "status", None) in (401, 403):
            raise PermissionError(errno.EACCES, _one_line(error), redact(uri)) from None
        raise StorageError(f"{redact(uri)}: {_one_line(error)}") from None


def _filesystem(uri: str) -> Any:
    if scheme(uri) in ("s3", "s3a") and "?versionId=" in uri:  # s3fs would silently drop it, and take another object
        raise StorageError(f"{redact(uri)}: a name with '?versionId=' in it cannot be read or written")
    return _open_filesystem(scheme(uri), os.getpid())


@functools.cache
def _open_filesystem(protocol: str, pid: int) -> Any:
    """One file system a protocol and process, shared by its threads; fsspec's own cache makes one for every thread."""
    options: dict[str, Any] = {"skip_instance_cache": True}
    if protocol in ("s3", "s3a"):
        options["use_listings_cache"] = False
    if protocol in ("http", "https"):
        options |= {"encoded": True, "client_kwargs": {"trust_env": True}}
    try:
        return fsspec.filesystem(protocol, **options)
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        remedy = f"pip install 'ddpm_seg[{extra}]'" if extra else str(error)
        raise StorageError(f"{protocol}:// needs a package that is not installed: {remedy}") from error
    except ValueError as error:
        raise StorageError(f"{protocol}:// is not a kind of storage that fsspec knows ({error})") from error


def _name(uri: str) -> str:
    """What to hand to the file system. An http(s) URL goes out as written; only what cannot stand in one is quoted."""
    return quote(uri, safe="%/:=&?~#+!$,;'@()*[]", errors="surrogateescape") if is_http(uri) else uri


def _listable(uri: str) -> Any:
    if is_http(uri):
        raise StorageError(f"{redact(uri)}: http(s) can be read, file by file, but neither listed nor written")
    return _filesystem(uri)


def _by_uri(uri: str, rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    # pyarrow and consoles leave empty objects called "folder/" behind.
    return {
        f"{scheme(uri)}://{name.lstrip('/')}": row
        for name, row in rows.items()
        if row["type"] == "file" and not name.endswith("/")
    }


def _read_stream(filesystem: Any, url: str, limit: int) -> bytes:
    """The first `limit` bytes; a server may ignore a Range header, so the stream is read no further than that."""
    parts: list[bytes] = []
    missing = limit
    # Told some size, fsspec opens a stream without asking for the size first, in a request of its own.
    with filesystem.open(url, "rb", block_size=0, size=1) as stream:
        while missing > 0:
            part = stream.read(missing)  # what has arrived, not always all that was asked for
            if not part:
                break
            parts.append(part)
            missing -= len(part)
    return b"".join(parts)


def _library_errors() -> tuple[type[Exception], ...]:
    """OSError, and the base classes of what the client libraries raise beside it, of those that are imported."""
    names = [
        ("botocore.exceptions", "BotoCoreError"),
        ("botocore.exceptions", "ClientError"),
        ("aiohttp", "ClientError"),
        ("asyncio", "TimeoutError"),  # no OSError before Python 3.11
    ]
    return OSError, *(getattr(sys.modules[module], name) for module, name in names if module in sys.modules)


def _one_line(error: BaseException) -> str:
    status = getattr(error, "status", None)
    if isinstance(status, int):  # aiohttp's own text quotes the whole URL
        return f"HTTP {status} {getattr(error, 'message', '')}".strip()
    text = str(error.strerror or error) if isinstance(error, OSError) else str(error)
    text = _HTTP_QUERY.sub(r"\1", _USERINFO.sub("", " ".join(text.split())))
    return text or type(error).__name__


def _precondition_failed(error: OSError) -> bool:
    """Whether S3 refused because of `If-None-Match: *`; s3fs makes an EINVAL of it, with botocore's error as cause."""
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code") in ("PreconditionFailed", "412")
