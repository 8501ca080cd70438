"""The remote half of `storage`: works on URIs through fsspec, with retries and clear errors (`patience`, `errors`).

S3 is listed by `s3_listing`: fsspec would start a long listing over if one page failed, keep a dictionary per object,
and silently skip a folder of a glob whose listing failed.
"""

from __future__ import annotations

import functools
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from glob import escape
from typing import Any

from fsspec.utils import glob_translate

from ddpm_seg.storage.errors import StorageError, status_of
from ddpm_seg.storage.local import is_temporary
from ddpm_seg.storage.patience import patiently
from ddpm_seg.storage.remote_read import ask_s3_why, name_in_store, read_s3_range, read_version
from ddpm_seg.storage.s3_listing import Row, s3_objects
from ddpm_seg.storage.stores import ANSWER_TIMEOUT_S, is_s3, store_of
from ddpm_seg.storage.uris import ONLY_READ, is_http, redact, scheme

_WRITER = "ddpm-seg-writer"


def exists(uri: str) -> bool:
    # Not fsspec's exists(): for a bucket and over http(s) it returns False on any failure.
    try:
        info(uri)
    except FileNotFoundError:
        return False
    return True


def info(uri: str, *, guarded: bool = False) -> dict[str, Any]:
    """fsspec's information on a file or folder: type, size, and some of ETag, LastModified, Last-Modified.

    `guarded`: see `stores.store_of`.
    """

    def attempt() -> dict[str, Any]:
        store = store_of(uri, guarded=guarded)
        try:
            return store.info(name_in_store(uri), **({"timeout": ANSWER_TIMEOUT_S} if is_http(uri) else {}))
        except FileNotFoundError as error:
            # fsspec raises this for every failed http(s) request, even a refused one or an unknown host.
            cause = error.__cause__
            if is_http(uri) and cause is not None and status_of(cause) != 404:
                raise cause from cause.__cause__
            raise
        except OSError as error:
            if is_s3(uri) and status_of(error) in (400, 403):
                ask_s3_why(store, uri)
            raise

    return patiently(uri, attempt)


def find(prefix: str) -> Iterator[Row]:
    """Lists every file below a prefix; for a file's own URI, that file."""
    filesystem = _listable(prefix)
    if not is_s3(prefix):
        yield from _files(prefix, patiently(prefix, lambda: filesystem.find(prefix, detail=True)))
        return
    bucket, key, _ = filesystem.split_path(prefix)
    below = s3_objects(prefix, bucket, key.rstrip("/") + "/" if key else "")
    first = next(below, None)
    if first is not None:
        yield first
        yield from below
    elif key:
        with suppress(FileNotFoundError):
            row = info(prefix)
            if row["type"] == "file":
                yield prefix, row


def find_beginning(prefix: str) -> Iterator[Row]:
    """Lists every S3 object whose key begins with that of `prefix`; nothing for other storage."""
    if is_s3(prefix):
        bucket, key, _ = _listable(prefix).split_path(prefix)
        yield from s3_objects(prefix, bucket, key)


def glob(pattern: str, *, below: bool = False) -> Iterator[Row]:
    """Lists every file that matches; with `below`, every file below a folder that matches."""
    filesystem = _listable(pattern)
    if not is_s3(pattern):
        pattern = f"{pattern}/**" if below else pattern
        yield from _files(pattern, patiently(pattern, lambda: filesystem.glob(pattern, detail=True)))
        return
    bucket, key, _ = filesystem.split_path(pattern)
    matches = re.compile(glob_translate(key + "/**/*" if below else key)).match
    start = f"{scheme(pattern)}://{bucket}/"
    for uri, row in s3_objects(pattern, bucket, re.split(r"[*?\[]", key, maxsplit=1)[0]):
        if matches(uri.removeprefix(start)):
            yield uri, row


def read(uri: str, limit: int | None) -> bytes:
    """Reads the first `limit` bytes, or all if that is None."""
    if limit is not None:
        return read_version(uri, limit)[0]
    return patiently(uri, lambda: store_of(uri).cat_file(name_in_store(uri)))


def read_range(uri: str, start: int, end: int, etag: str | None = None, guarded: bool = False) -> bytes:
    """Reads the bytes from `start` up to `end` (exclusive); the file must be that long.

    On S3, `etag` (as `info` spells it) says which object to read; raises StorageError if it has been replaced.
    `guarded`: see `stores.store_of`.
    """

    def attempt() -> bytes:
        store = store_of(uri, guarded=guarded)
        if etag is None or not is_s3(uri):
            return store.cat_file(name_in_store(uri), start=start, end=end)
        try:
            return read_s3_range(store, uri, start, end, etag)
        except OSError as error:
            if status_of(error) == 412:
                raise StorageError(f"{redact(uri)}: it was replaced while it was read") from None
            raise

    return patiently(uri, attempt)


def write(uri: str, data: bytes) -> None:
    patiently(uri, lambda: _listable(uri).pipe_file(uri, data))


def create(uri: str, data: bytes) -> bool:
    """Writes unless something exists at `uri` (on S3 with `If-None-Match: *`, also for multipart uploads).

    On S3 the result is right even if the request was retried because an answer was lost: a mark in the object's
    metadata distinguishes this call's object from another's. On other stores False may then mean this call's own file.
    """
    mark = uuid.uuid4().hex
    options = {"Metadata": {_WRITER: mark}} if is_s3(uri) else {}

    def attempt() -> bool:
        filesystem = _listable(uri)
        try:
            filesystem.pipe_file(uri, data, mode="create", **options)
            return True
        except NotImplementedError:
            raise StorageError(f"{redact(uri)}: this storage cannot create a file only if it is absent") from None
        except OSError as error:
            # If `If-None-Match: *` fails, s3fs raises EINVAL with botocore's error as its cause.
            if not isinstance(error, FileExistsError) and status_of(error) != 412:
                raise
        return is_s3(uri) and _writer(filesystem, uri) == mark

    return patiently(uri, attempt)


def delete(uri: str) -> None:
    """Deletes the file at `uri` and everything below `uri` as a prefix."""
    filesystem = _listable(uri)
    bucket_only = "/" not in uri.partition("://")[2]
    # One by one: fsspec's rm() would read a "*" in a name as a pattern. `uri` can be both a file and a prefix.
    for name in [*(name for name, _ in find(uri)), *([] if bucket_only else [uri])]:
        with suppress(FileNotFoundError):
            patiently(name, functools.partial(filesystem.rm_file, name))


def delete_unfinished(folder: str) -> None:
    """Deletes the temporary files directly in a folder. Remote writes need none, so these are left-over probes."""
    for uri, _ in glob(f"{escape(folder.rstrip('/'))}/.*.tmp"):
        if is_temporary(uri.rpartition("/")[2]):
            delete(uri)


def _listable(uri: str) -> Any:
    if is_http(uri):
        raise StorageError(f"{redact(uri)}: {ONLY_READ}")
    return store_of(uri)


def _files(uri: str, rows: dict[str, dict[str, Any]]) -> Iterator[Row]:
    for name, row in rows.items():
        if row["type"] == "file" and not name.endswith("/"):
            yield f"{scheme(uri)}://{name.lstrip('/')}", row


def _writer(filesystem: Any, uri: str) -> str | None:
    """The mark that `create` put into the object's metadata; None if there is none, or no object any more."""
    with suppress(FileNotFoundError):
        return filesystem.getxattr(uri, _WRITER)
    return None
