"""Finds the columns of a list that hold the images' names and versions, with S3 Inventory's names among them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any
from urllib.parse import unquote_plus

from ddpm_seg.printable import printable

_URI_COLUMNS = ("uri", "url", "path")
_BUCKET_AND_KEY = ("bucket", "key")
_DIGITS = re.compile(r"\d{1,15}", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One entry of a list: its stripped text, and the file's version if the list has it."""

    text: str
    etag: str | None = None
    size_bytes: int | None = None
    modified: datetime | None = None
    verdict: str = ""
    """What a person decided about the image, if the list says."""
    run_id: str = ""
    """The run whose result was judged, if the list says."""
    fault: str | None = None
    """Why it cannot be an image's name, if so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """Positions of the columns that are used."""

    uri: int | None
    bucket_and_key: tuple[int, int] | None
    etag: int | None
    size: int | None
    modified: int | None
    latest: int | None
    deleted: int | None
    verdict: int | None = None
    run_id: int | None = None

    def names(self) -> tuple[int, ...]:
        """Positions of the columns that make up an image's name."""
        return (self.uri,) if self.uri is not None else self.bucket_and_key or ()

    def describe(self, names: list[str]) -> str:
        shown = [printable(name.strip()) for name in names]
        found = [repr(shown[place]) for place in self.names()]
        where = f"column {found[0]}" if len(found) == 1 else f"columns {' and '.join(found)}"
        return f"{where}, with the versions that the list has" if self.etag is not None else where

    def used(self) -> list[int]:
        places = (
            *self.names(),
            *(self.etag, self.size, self.modified, self.latest, self.deleted, self.verdict, self.run_id),
        )
        return sorted({place for place in places if place is not None})

    def entry(self, cells: list[Any], *, encoded: bool) -> Entry | None:
        """The entry in a row; None if its name is blank, or it is an old or deleted version. `encoded`: keys are
        percent-encoded, as in S3 Inventory's CSV files."""
        if self.latest is not None and cell_text(cells[self.latest]).lower() == "false":
            return None
        if self.deleted is not None and cell_text(cells[self.deleted]).lower() == "true":
            return None
        if self.uri is not None:
            text = cell_text(cells[self.uri])
        else:
            assert self.bucket_and_key is not None
            bucket, key = (cell_text(cells[place]) for place in self.bucket_and_key)
            if not bucket or not key:
                return None
            text = f"s3://{bucket}/{unquote_plus(key, errors='surrogateescape') if encoded else key}"
        if not text:
            return None
        verdict = cell_text(cells[self.verdict]) if self.verdict is not None else ""
        run_id = cell_text(cells[self.run_id]) if self.run_id is not None else ""
        etag = cell_text(cells[self.etag]).strip('"') if self.etag is not None else ""
        if not etag:
            return Entry(text=text, verdict=verdict, run_id=run_id)
        size = _size(cells[self.size]) if self.size is not None else None
        modified = _time(cells[self.modified]) if self.modified is not None else None
        return Entry(text=text, etag=etag, size_bytes=size, modified=modified, verdict=verdict, run_id=run_id)


def find_columns(names: list[str], uri_column: str | None = None) -> Columns | None:
    """The columns by their names in the header; None if there is no `uri_column`, or without that if no column is known
    to hold images' names."""
    plain = list(map(_plain, names))

    def place(*wanted: str) -> int | None:
        return next((plain.index(name) for name in wanted if name in plain), None)

    uri, (bucket, key) = place(*_URI_COLUMNS), map(place, _BUCKET_AND_KEY)
    if uri_column is not None:
        stripped = [name.strip() for name in names]
        if uri_column not in stripped:
            return None
        uri = stripped.index(uri_column)
    both = (bucket, key) if uri is None and bucket is not None and key is not None else None
    if uri is None and both is None:
        return None
    return Columns(
        uri=uri,
        bucket_and_key=both,
        etag=place("etag"),
        size=place("size", "sizebytes"),
        modified=place("lastmodifieddate", "lastmodified", "modified"),
        latest=place("islatest"),
        deleted=place("isdeletemarker"),
        verdict=place("verdict"),
        run_id=place("runid"),
    )


def may_name_images(column: str) -> bool:
    """Whether a column is called like one with images' names, or a part of them."""
    return _plain(column) in (*_URI_COLUMNS, *_BUCKET_AND_KEY)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def cell_text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="surrogateescape")
    return "" if value is None else str(value).strip()


def _size(value: Any) -> int | None:
    text = cell_text(value)
    return int(text) if _DIGITS.fullmatch(text) else None


def _time(value: Any) -> datetime | None:
    if not isinstance(value, datetime):
        try:
            value = datetime.fromisoformat(cell_text(value).replace("Z", "+00:00"))
        except ValueError:
            return None
    return value.replace(tzinfo=timezone.utc) if value.tzinfo is None else value.astimezone(timezone.utc)


ONLY_COLUMN = Columns(uri=0, bucket_and_key=None, etag=None, size=None, modified=None, latest=None, deleted=None)
