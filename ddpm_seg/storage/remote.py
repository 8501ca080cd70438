"""What `storage` does with URIs that are not local, through fsspec: each request patiently, each error clear.

S3 is listed page by page, here: fsspec would begin a long listing afresh for one page that failed, hold a dictionary
for every object, and leave a folder out of a glob whose listing failed.
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
from ddpm_seg.storage.remote_read import name_in_store, read_s3_range, read_version
from ddpm_seg.storage.stores import ANSWER_TIMEOUT_S, is_s3, store_of
from ddpm_seg.storage.uris import ONLY_READ, is_http, redact, scheme

_WRITER = "ddpm-seg-writer"

Row = tuple[str, dict[str, Any]]  # URI, and what the storage says of it: size, and per storage ETag, LastModified, …


def exists(uri: str) -> bool:
    # Not fsspec's exists(): asked for a bucket or over http(s), it takes every failure for "no".
    try:
        info(uri)
    except FileNotFoundError:
        return False
    return True


def info(uri: str, *, guarded: bool = False) -> dict[str, Any]:
    """fsspec's row for a file or folder: type, size, and per storage ETag, LastModified, Last-Modified.

    `guarded` as in `stores.store_of`.
    """

    def attempt() -> dict[str, Any]:
        try:
            store = store_of(uri, guarded=guarded)
            return store.info(name_in_store(uri), **({"timeout": ANSWER_TIMEOUT_S} if is_http(uri) else {}))
        except FileNotFoundError as error:
            # fsspec says so of every failed http(s) request, a refused one or an unknown host too.
            cause = error.__cause__
            if is_http(uri) and cause is not None and status_of(cause) != 404:
                raise cause from cause.__cause__
            raise

    return patiently(uri, attempt)


def find(prefix: str) -> Iterator[Row]:
    """Every file below a prefix; a file's own URI gives that file."""
    filesystem = _listable(prefix)
    if not is_s3(prefix):
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


def find_beginning(prefix: str) -> Iterator[Row]:
    """Every S3 object whose key begins with that of `prefix`; no file of any other storage."""
    if is_s3(prefix):
        bucket, key, _ = _listable(prefix).split_path(prefix)
        yield from _s3_objects(prefix, bucket, key)


def glob(pattern: str, *, below: bool = False) -> Iterator[Row]:
    """Every file that matches; with `below`, every file in a folder that matches."""
    filesystem = _listable(pattern)
    if not is_s3(pattern):
        pattern = f"{pattern}/**" if below else pattern
        yield from _files(pattern, patiently(pattern, lambda: filesystem.glob(pattern, detail=True)))
        return
    bucket, key, _ = filesystem.split_path(pattern)
    matches = re.compile(glob_translate(key + "/**/*" if below else key)).match
    start = f"{scheme(pattern)}://{bucket}/"
    for uri, row in _s3_objects(pattern, bucket, re.split(r"[*?\[]", key, maxsplit=1)[0]):
        if matches(uri.removeprefix(start)):
            yield uri, row


def read(uri: str, limit: int | None) -> bytes:
    """The first `limit` bytes, or all."""
    if limit is not None:
        return read_version(uri, limit)[0]
    return patiently(uri, lambda: store_of(uri).cat_file(name_in_store(uri)))


def read_range(uri: str, start: int, end: int, etag: str | None = None, guarded: bool = False) -> bytes:
    """Bytes `start` to `end`, which must be there; on S3, of the object with this ETag alone, as `info` spells it.

    `guarded` as in `stores.store_of`. Raises StorageError where another object stands there now.
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
    """Write unless something stands there (`If-None-Match: *` on S3, for a multipart upload too).

    On S3 the answer is right even where a request was repeated because its first answer was lost: a mark in the
    object's metadata tells this call's object from another's. Other stores may then say False of their own.
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
            # Of `If-None-Match: *` s3fs makes an EINVAL, with botocore's error as its cause.
            if not isinstance(error, FileExistsError) and status_of(error) != 412:
                raise
        return is_s3(uri) and _writer(filesystem, uri) == mark

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


def _listable(uri: str) -> Any:
    if is_http(uri):
        raise StorageError(f"{redact(uri)}: {ONLY_READ}")
    return store_of(uri)


def _files(uri: str, rows: dict[str, dict[str, Any]]) -> Iterator[Row]:
    for name, row in rows.items():
        if row["type"] == "file" and not name.endswith("/"):
            yield f"{scheme(uri)}://{name.lstrip('/')}", row


def _s3_objects(uri: str, bucket: str, prefix: str) -> Iterator[Row]:
    """The objects whose keys begin with `prefix`, a page at a time; `uri` is what the caller asked for."""
    list_page = functools.partial(store_of(uri).call_s3, "list_objects_v2", Bucket=bucket, Prefix=prefix)
    page = patiently(uri, list_page)
    while True:
        for found in page.get("Contents", []):
            if not found["Key"].endswith("/"):  # pyarrow and consoles leave empty objects called "folder/" behind
                yield f"{scheme(uri)}://{bucket}/{found['Key']}", {**found, "size": found["Size"]}
        if not page.get("IsTruncated"):
            return
        page = patiently(uri, functools.partial(list_page, ContinuationToken=page["NextContinuationToken"]))


def _writer(filesystem: Any, uri: str) -> str | None:
    """The mark that `create` left in the object's metadata; None for anybody else's, and where it is gone again."""
    with suppress(FileNotFoundError):
        return filesystem.getxattr(uri, _WRITER)
    return None
