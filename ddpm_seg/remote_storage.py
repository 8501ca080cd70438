"""What `storage` does with URIs that are not local, through fsspec: each request patiently, each error clear.

S3 is listed page by page, here: fsspec would begin a long listing afresh for one page that failed, hold a dictionary
for every object, and leave a folder out of a glob whose listing failed.
"""

from __future__ import annotations

import functools
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from glob import escape
from typing import Any
from urllib.parse import quote

import fsspec
from fsspec.utils import glob_translate

from ddpm_seg.local_storage import is_temporary
from ddpm_seg.patience import patiently
from ddpm_seg.storage_errors import StorageError, status_of
from ddpm_seg.uris import is_http, redact, scheme

_EXTRAS = {"s3": "s3", "s3a": "s3", "http": "https", "https": "https"}
_CONNECT_TIMEOUT_S = 10
_READ_TIMEOUT_S = 30  # without a byte; a store under load may think for many seconds
_DOWNLOAD_TIMEOUT_S = 300  # a whole answer of an http(s) server, which may be anybody's
_WRITER = "ddpm-seg-writer"

Row = tuple[str, dict[str, Any]]  # URI, and what the storage says of it: size, and per storage ETag, LastModified, …


def exists(uri: str) -> bool:
    # Not fsspec's exists(): asked for a bucket or over http(s), it takes every failure for "no".
    try:
        info(uri)
    except FileNotFoundError:
        return False
    return True


def info(uri: str) -> dict[str, Any]:
    """fsspec's row for a file or folder: type, size, and per storage ETag, LastModified, Last-Modified."""

    def attempt() -> dict[str, Any]:
        try:
            return _filesystem(uri).info(_name(uri))
        except FileNotFoundError as error:
            # fsspec says so of every failed http(s) request, a refused one or an unknown host too.
            if is_http(uri) and error.__cause__ is not None and status_of(error.__cause__) != 404:
                raise error.__cause__ from None
            raise

    return patiently(uri, attempt)


def find(prefix: str) -> Iterator[Row]:
    """Every file below a prefix; a file's own URI gives that file."""
    filesystem = _listable(prefix)
    if not _is_s3(prefix):
        yield from _files(prefix, patiently(prefix, lambda: filesystem.find(prefix, detail=True)))
        return
    bucket, key, _ = filesystem.split_path(prefix)
    below = _s3_objects(prefix, bucket, key.rstrip("/") + "/" if key else "")
    first = next(below, None)
    if first is not None:
        yield first
        yield from below
    elif key:
        with suppress(FileNotFoundError):
            row = info(prefix)
            if row["type"] == "file":
                yield prefix, row


def glob(pattern: str) -> Iterator[Row]:
    """Every file that matches."""
    filesystem = _listable(pattern)
    if not _is_s3(pattern):
        yield from _files(pattern, patiently(pattern, lambda: filesystem.glob(pattern, detail=True)))
        return
    bucket, key, _ = filesystem.split_path(pattern)
    matches = re.compile(glob_translate(key)).match
    start = f"{scheme(pattern)}://{bucket}/"
    for uri, row in _s3_objects(pattern, bucket, re.split(r"[*?\[]", key, maxsplit=1)[0]):
        if matches(uri.removeprefix(start)):
            yield uri, row


def read(uri: str, limit: int | None) -> bytes:
    """The first `limit` bytes, or all."""

    def attempt() -> bytes:
        filesystem = _filesystem(uri)
        name = _name(uri)
        if limit is None:
            return filesystem.cat_file(name)
        if is_http(uri):
            return _read_stream(filesystem, name, limit)
        try:
            return filesystem.cat_file(name, start=0, end=limit)
        except OSError as error:
            if status_of(error) == 416:  # an empty object has no first byte to ask for
                return b""
            raise

    return patiently(uri, attempt)


def read_range(uri: str, start: int, end: int) -> bytes:
    """Bytes `start` to `end`, which must be there."""
    return patiently(uri, lambda: _filesystem(uri).cat_file(_name(uri), start=start, end=end))


def write(uri: str, data: bytes) -> None:
    patiently(uri, lambda: _listable(uri).pipe_file(uri, data))


def create(uri: str, data: bytes) -> bool:
    """Write unless something stands there (`If-None-Match: *` on S3, for a multipart upload too).

    On S3 the answer is right even where a request was repeated because its first answer was lost: a mark in the
    object's metadata tells this call's object from another's. Other stores may then say False of their own.
    """
    mark = uuid.uuid4().hex
    options = {"Metadata": {_WRITER: mark}} if _is_s3(uri) else {}

    def attempt() -> bool:
        filesystem = _listable(uri)
        try:
            filesystem.pipe_file(uri, data, mode="create", **options)
            return True
        except NotImplementedError:
            raise StorageError(f"{redact(uri)}: this storage cannot create a file only if it is absent") from None
        except OSError as error:
            # Of `If-None-Match: *` s3fs makes an EINVAL, with botocore's error as its cause.
            if not isinstance(error, FileExistsError) and status_of(error) != 412:
                raise
        return _is_s3(uri) and _writer(filesystem, uri) == mark

    return patiently(uri, attempt)


def delete(uri: str) -> None:
    """Delete the file and everything below it as a prefix."""
    filesystem = _listable(uri)
    bucket_only = "/" not in uri.partition("://")[2]
    # One by one: fsspec's rm() would take a "*" in a name for a pattern. A file may stand beside its own prefix.
    for name in [*(name for name, _ in find(uri)), *([] if bucket_only else [uri])]:
        with suppress(FileNotFoundError):
            patiently(name, functools.partial(filesystem.rm_file, name))


def delete_unfinished(folder: str) -> None:
    """Delete the temporary files in a folder: writes need none here, so these were probes."""
    for uri, _ in glob(f"{escape(folder.rstrip('/'))}/.*.tmp"):
        if is_temporary(uri.rpartition("/")[2]):
            delete(uri)


def _filesystem(uri: str) -> Any:
    if _is_s3(uri) and "?versionId=" in uri:  # s3fs would silently drop it, and take another object
        raise StorageError(f"{redact(uri)}: a name with '?versionId=' in it cannot be read or written")
    return _open_filesystem(scheme(uri), os.getpid())


@functools.cache
def _open_filesystem(protocol: str, pid: int) -> Any:
    """One file system a protocol and process, shared by its threads; fsspec's own cache makes one for every thread."""
    try:
        filesystem = fsspec.filesystem(protocol, skip_instance_cache=True, **_options(protocol))
    except ImportError as error:
        extra = _EXTRAS.get(protocol)
        remedy = f"pip install 'ddpm_seg[{extra}]'" if extra else str(error)
        raise StorageError(f"{protocol}:// needs a package that is not installed: {remedy}") from error
    except ValueError as error:
        raise StorageError(f"{protocol}:// is not a kind of storage that fsspec knows ({error})") from error
    if protocol in ("s3", "s3a"):
        filesystem.retries = 1  # `patiently` repeats, and nobody below it
    return filesystem


def _options(protocol: str) -> dict[str, Any]:
    if protocol in ("s3", "s3a"):
        timeouts = {"connect_timeout": _CONNECT_TIMEOUT_S, "read_timeout": _READ_TIMEOUT_S}
        # botocore too, which would ask a second time for the end of a multipart upload that has ended.
        return {"use_listings_cache": False, "config_kwargs": timeouts | {"retries": {"total_max_attempts": 1}}}
    if protocol in ("http", "https"):
        import aiohttp  # only where it is needed: an extra

        timeout = aiohttp.ClientTimeout(
            total=_DOWNLOAD_TIMEOUT_S, sock_connect=_CONNECT_TIMEOUT_S, sock_read=_READ_TIMEOUT_S
        )
        return {"encoded": True, "client_kwargs": {"trust_env": True, "timeout": timeout}}
    return {}


def _is_s3(uri: str) -> bool:
    return scheme(uri) in ("s3", "s3a")


def _name(uri: str) -> str:
    """What to hand to the file system. An http(s) URL goes out as written; only what cannot stand in one is quoted."""
    return quote(uri, safe="%/:=&?~#+!$,;'@()*[]", errors="surrogateescape") if is_http(uri) else uri


def _listable(uri: str) -> Any:
    if is_http(uri):
        raise StorageError(f"{redact(uri)}: http(s) can be read, file by file, but neither listed nor written")
    return _filesystem(uri)


def _files(uri: str, rows: dict[str, dict[str, Any]]) -> Iterator[Row]:
    for name, row in rows.items():
        if row["type"] == "file" and not name.endswith("/"):
            yield f"{scheme(uri)}://{name.lstrip('/')}", row


def _s3_objects(uri: str, bucket: str, prefix: str) -> Iterator[Row]:
    """The objects whose keys begin with `prefix`, a page at a time; `uri` is what the caller asked for."""
    list_page = functools.partial(_filesystem(uri).call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix)
    page = patiently(uri, list_page)
    while True:
        for found in page.get("Contents", []):
            if not found["Key"].endswith("/"):  # pyarrow and consoles leave empty objects called "folder/" behind
                yield f"{scheme(uri)}://{bucket}/{found['Key']}", {**found, "size": found["Size"]}
        if not page.get("IsTruncated"):
            return
        page = patiently(uri, functools.partial(list_page, ContinuationToken=page["NextContinuationToken"]))


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


def _writer(filesystem: Any, uri: str) -> str | None:
    """The mark that `create` left in the object's metadata; None for anybody else's, and where it is gone again."""
    with suppress(FileNotFoundError):
        return filesystem.getxattr(uri, _WRITER)
    return None
