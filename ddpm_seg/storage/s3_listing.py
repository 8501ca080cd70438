"""Lists a bucket of S3: the folders in it at once, each page by page.

The request for a page needs the token of the page before, so that one listing gets 1,000 names per round trip, whatever
the connection bears. Other listings, of other prefixes, need not wait for it.
"""

from __future__ import annotations

import functools
import gzip
import pickle
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import chain, islice
from tempfile import SpooledTemporaryFile
from typing import Any

from ddpm_seg.storage.patience import patiently
from ddpm_seg.storage.stores import store_of
from ddpm_seg.storage.uris import scheme
from ddpm_seg.temporary_space import space_named

Row = tuple[str, dict[str, Any]]  # URI, and what the storage says about it: size, and some of ETag, LastModified, …

LISTERS = 16
_ENOUGH = 2 * LISTERS  # folders: no more are looked for, and so many are listed ahead of those that are asked for
_SMALL = 4  # folders that begin on one page: so many names would not be worth a request for each of them
_IN_MEMORY = 64_000  # bytes of a folder's rows before they go to a temporary file
_KEPT = ("ETag", "LastModified")


def s3_objects(uri: str, bucket: str, prefix: str) -> Iterator[Row]:
    """Lists the objects whose keys begin with `prefix`, in the server's order.

    A page of rows is in memory at a time; those of folders that are listed ahead wait in temporary files. `uri` is for
    error messages.
    """
    listing = _Listing(uri, bucket)
    first = listing.page(prefix)
    parts = _divided(listing, prefix) if first.get("IsTruncated") else [prefix]
    if sum(isinstance(part, str) for part in parts) < 2:
        return chain.from_iterable(listing.pages(prefix, first))
    return _in_turn(listing, parts)


class _Listing:
    """Requests for the pages of one bucket."""

    def __init__(self, uri: str, bucket: str) -> None:
        self._uri, self._start = uri, f"{scheme(uri)}://{bucket}/"
        self._list = functools.partial(store_of(uri).call_s3, "list_objects_v2", Bucket=bucket)
        self.stopped = threading.Event()

    def page(self, prefix: str, **options: str) -> dict[str, Any]:
        return patiently(self._uri, functools.partial(self._list, Prefix=prefix, **options))

    def pages(self, prefix: str, page: dict[str, Any]) -> Iterator[list[Row]]:
        """The rows of this page and of those that follow."""
        while True:
            yield list(map(self.row, _files(page)))
            if not page.get("IsTruncated") or self.stopped.is_set():
                return
            page = self.page(prefix, ContinuationToken=page["NextContinuationToken"])

    def row(self, found: dict[str, Any]) -> Row:
        kept = {name: found[name] for name in _KEPT if name in found}
        return self._start + found["Key"], {"size": found["Size"], **kept}

    def to_file(self, prefix: str) -> Any:
        """A temporary file with all rows of a prefix."""
        file = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
        with space_named("a listing"), gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed:
            for rows in self.pages(prefix, self.page(prefix)):
                pickle.dump(rows, packed)
        file.seek(0)
        return file


def _files(page: dict[str, Any]) -> list[dict[str, Any]]:
    # pyarrow and web consoles make empty objects called "folder/"
    return [found for found in page.get("Contents", []) if not found["Key"].endswith("/")]


def _divided(listing: _Listing, prefix: str) -> list[Row | str]:
    """The prefix as rows and narrower prefixes, in order: level by level, until there are enough of them or no more.

    A prefix stays whole if more than a page of names are directly in it, or many small folders: so the requests are at
    most some four times the pages.
    """
    parts: list[Row | str] = [prefix]
    whole: set[str] = set()
    with ThreadPoolExecutor(LISTERS) as pool:
        while True:
            prefixes = [part for part in parts if isinstance(part, str)]
            narrow = [part for part in prefixes if part not in whole]
            if not narrow or len(prefixes) >= _ENOUGH:
                return parts
            levels = dict(zip(narrow, pool.map(functools.partial(_level, listing), narrow), strict=True))
            whole.update(part for part, level in levels.items() if level is None)
            parts = list(chain.from_iterable(_either(part, levels) for part in parts))


def _either(part: Row | str, levels: dict[str, list[Row | str] | None]) -> Sequence[Row | str]:
    level = levels.get(part) if isinstance(part, str) else None
    return [part] if level is None else level


def _level(listing: _Listing, prefix: str) -> list[Row | str] | None:
    """The files and folders directly below a prefix; None if it should stay whole."""
    page = listing.page(prefix, Delimiter="/")
    if page.get("IsTruncated"):
        return None
    folders = [(found["Prefix"], found["Prefix"]) for found in page.get("CommonPrefixes", [])]
    if any(key == prefix for key, _ in folders):
        return None
    if len(folders) > _ENOUGH and _are_small(listing, prefix):
        return None
    files = [(found["Key"], listing.row(found)) for found in _files(page)]
    return [part for _, part in sorted([*folders, *files], key=lambda keyed: keyed[0].encode(errors="surrogateescape"))]


def _are_small(listing: _Listing, prefix: str) -> bool:
    """Whether the first page of names is of several folders."""
    names = (found["Key"].removeprefix(prefix) for found in listing.page(prefix).get("Contents", []))
    return len({name.partition("/")[0] for name in names if "/" in name}) >= _SMALL


def _in_turn(listing: _Listing, parts: Sequence[Row | str]) -> Iterator[Row]:
    """The rows of all parts in order, while those of later prefixes are fetched."""
    prefixes = iter([part for part in parts if isinstance(part, str)])
    pool = ThreadPoolExecutor(LISTERS)
    try:
        begun = deque(pool.submit(listing.to_file, prefix) for prefix in islice(prefixes, _ENOUGH))
        for part in parts:
            if not isinstance(part, str):
                yield part
                continue
            with closing(begun.popleft().result()) as file:
                begun.extend(pool.submit(listing.to_file, prefix) for prefix in islice(prefixes, 1))
                yield from _rows_in(file)
    finally:
        listing.stopped.set()
        pool.shutdown(wait=False, cancel_futures=True)


def _rows_in(file: Any) -> Iterator[Row]:
    with gzip.GzipFile(fileobj=file, mode="rb") as packed:
        while packed.peek(1):
            yield from pickle.load(packed)
