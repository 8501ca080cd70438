"""The images that a person chose: any list of images, or the verdicts that a report saves (`verdicts.csv`)."""

from __future__ import annotations

import csv
import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.data.inputs import lists
from ddpm_seg.data.inputs.entries import as_stored, file_of_entry
from ddpm_seg.data.inputs.list_columns import Entry
from ddpm_seg.printable import printable

logger = logging.getLogger(__name__)

Verdict = Literal["accept", "reject"]

VERDICTS = ("accept", "reject", "look again")
"""The mask is right; it is wrong; not decided yet."""

_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Chosen:
    """Images chosen by a file. Each is known by the name in the file and by its full URI, as tables store them."""

    source: str
    """The file, for messages."""
    entries: dict[str, Entry]
    """For each name, the file's entry; several names may have the same entry."""

    @property
    def names(self) -> Collection[str]:
        return self.entries.keys()

    def check_found(self, found: Collection[str], place: str) -> None:
        """Warns of images that are not among the URIs `found` at `place`; raises ValueError if none of them is."""
        known = {id(self.entries[name]) for name in found if name in self.entries}
        missing = {id(entry): entry.text for entry in self.entries.values() if id(entry) not in known}
        if not missing:
            return
        names = ", ".join(printable(storage.redact(text)) for text in list(missing.values())[:_SHOWN])
        more = ", …" if len(missing) > _SHOWN else ""
        if not known:
            raise ValueError(
                f"{place} has none of the images that {self.source} chooses: {names}{more}; expected names as in the "
                "column uri of the tables"
            )
        logger.warning("%s lacks %d images that %s chooses: %s%s", place, len(missing), self.source, names, more)


def read_chosen(uri: str, verdict: Verdict) -> Chosen:
    """The images that the file at `uri` lists or, if it has a column `verdict`, those with this `verdict`.

    An image that is listed twice counts as on its later line. Raises FileNotFoundError if there is no such file, and
    ValueError if it is not a list, has an unknown verdict, or chooses no image.
    """
    name = storage.redact(uri)
    if lists.suffix_of(uri) not in lists.SUFFIXES:
        raise ValueError(f"{name} is not a list of images: expected a file {', '.join(lists.SUFFIXES)}")
    try:
        found = lists.read_list(uri)
        entries = [_checked(entry, with_verdict=found.has_verdicts) for entry in found.entries]
    except (ValueError, csv.Error, pa.ArrowException) as error:
        raise ValueError(f"{name} cannot be read as a list of images: {error}") from error
    latest = {key: entry for entry in entries for key in (as_stored(entry.text), as_stored(_uri(entry, uri)))}
    kept = {key: entry for key, entry in latest.items() if not found.has_verdicts or entry.verdict.lower() == verdict}
    if not kept:
        whose = f" with the verdict {verdict!r}" if entries else ""
        raise ValueError(f"{name} lists no images{whose}")
    return Chosen(source=name, entries=kept)


def _checked(entry: Entry, *, with_verdict: bool) -> Entry:
    if entry.fault is not None:
        raise ValueError(f"a faulty line, {printable(entry.text[:80])!r}: {entry.fault}")
    if with_verdict and entry.verdict.lower() not in ("", *VERDICTS):
        raise ValueError(
            f"{printable(entry.text)} has the verdict {printable(entry.verdict)!r}; expected {', '.join(VERDICTS)}, "
            "or nothing"
        )
    return entry


def _uri(entry: Entry, list_uri: str) -> str:
    return file_of_entry(entry, list_uri).uri
