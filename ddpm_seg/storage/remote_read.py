"""Reads the beginning of a remote file, or all of it, together with the version that was read.

Both come from the same answer: between two requests the file might be replaced.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from fsspec.asyn import sync

from ddpm_seg.storage.errors import StorageError, status_of
from ddpm_seg.storage.patience import patiently
from ddpm_seg.storage.stores import DOWNLOAD_TIMEOUT_S, is_s3, store_of
from ddpm_seg.storage.uris import is_http, redact

# Without a minimum rate, a server that sends a byte now and then could occupy a worker forever.
SLOWEST_BYTES_PER_S = 2_000
FIRST_S = 30.0  # the rate is checked only after this time

Version = dict[str, Any]
"""What an answer says about a file, with the keys of `remote.info`."""


def read_version(uri: str, limit: int, *, guarded: bool = False) -> tuple[bytes, Version]:
    """Reads at most `limit` bytes; also returns their version, which is empty except for S3 and http(s).

    `guarded`: see `stores.store_of`. Raises StorageError for an http(s) server that is slower than
    `SLOWEST_BYTES_PER_S` or takes longer than `DOWNLOAD_TIMEOUT_S`.
    """

    def attempt() -> tuple[bytes, Version]:
        store = store_of(uri, guarded=guarded)
        if is_http(uri):
            return sync(store.loop, _http, store, uri, limit)
        if is_s3(uri):
            return sync(store.loop, _s3, store, uri, limit)
        return _other(store, uri, limit), {}

    return patiently(uri, attempt)


def name_in_store(uri: str) -> str:
    """The name to pass to fsspec: `uri`, except that characters that an http(s) URL cannot contain are quoted."""
    return quote(uri, safe="%/:=&?~#+!$,;'@()*[]", errors="surrogateescape") if is_http(uri) else uri


async def _http(store: Any, uri: str, limit: int) -> tuple[bytes, Version]:
    name, progress = name_in_store(uri), _Progress(uri)
    try:
        return await asyncio.wait_for(_http_answer(store, name, limit, progress), DOWNLOAD_TIMEOUT_S)
    except asyncio.TimeoutError:
        if progress.seconds() < DOWNLOAD_TIMEOUT_S:  # aiohttp's own connection timeout, which may pass
            raise
        raise progress.too_slow() from None


async def _http_answer(store: Any, name: str, limit: int, progress: _Progress) -> tuple[bytes, Version]:
    session = await store.set_session()
    async with session.get(store.encode_url(name)) as answer:
        store._raise_not_found_for_status(answer, name)
        # A server may ignore a Range header, so stop reading the stream at the limit instead.
        data = await _up_to(limit, answer.content.iter_any(), progress)
        return data, {key: answer.headers[key] for key in ("ETag", "Last-Modified") if key in answer.headers}


async def _s3(store: Any, uri: str, limit: int) -> tuple[bytes, Version]:
    bucket, key, _ = store.split_path(uri)
    answer = await store._call_s3("get_object", Bucket=bucket, Key=key)
    try:
        data = await _up_to(limit, answer["Body"].iter_chunks(1 << 20), None)
    finally:
        answer["Body"].close()
    return data, {key: answer[key] for key in ("ETag", "LastModified") if key in answer}


def ask_s3_why(store: Any, uri: str) -> None:
    """Raises what S3 answers to a request to read the object, if it refuses that: its answer to one for information,
    which has no body, does not say why."""
    if store.split_path(uri)[1]:
        sync(store.loop, _s3, store, uri, 1)


def read_s3_range(store: Any, uri: str, start: int, end: int, etag: str) -> bytes:
    """Bytes `start` to `end` of the object with this ETag; the server answers 412 if there is another one."""
    return sync(store.loop, _s3_range, store, uri, start, end, etag)


async def _s3_range(store: Any, uri: str, start: int, end: int, etag: str) -> bytes:
    bucket, key, _ = store.split_path(uri)
    wanted = {"Range": f"bytes={start}-{end - 1}", "IfMatch": etag}
    answer = await store._call_s3("get_object", Bucket=bucket, Key=key, **wanted)
    try:
        return await answer["Body"].read()
    finally:
        answer["Body"].close()


def _other(store: Any, uri: str, limit: int) -> bytes:
    try:
        return store.cat_file(uri, start=0, end=limit)
    except OSError as error:
        if status_of(error) == 416:  # an empty object has no byte range
            return b""
        raise


async def _up_to(limit: int, parts: AsyncIterator[bytes], progress: _Progress | None) -> bytes:
    kept: list[bytes] = []
    missing = limit
    async for part in parts:
        kept.append(part[:missing])
        missing -= len(kept[-1])
        if progress is not None:
            progress.check(limit - missing)
        if missing <= 0:
            break
    return b"".join(kept)


class _Progress:
    """Measures how fast an answer arrives."""

    def __init__(self, uri: str) -> None:
        self._uri, self._start, self._received = uri, time.monotonic(), 0

    def seconds(self) -> float:
        return time.monotonic() - self._start

    def check(self, received: int) -> None:
        self._received = received
        if (seconds := self.seconds()) > FIRST_S and received < SLOWEST_BYTES_PER_S * seconds:
            raise self.too_slow()

    def too_slow(self) -> StorageError:
        return StorageError(
            f"{redact(self._uri)}: the server is too slow: {self._received} bytes in {self.seconds():.0f} s"
        )
