"""Turns an entry of a list into the file that it names, or the reason why it names none."""

from __future__ import annotations

import posixpath
import unicodedata
from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.list_columns import Entry
from ddpm_seg.data.inputs.lists import LONGEST
from ddpm_seg.storage import FileInfo

_NOT_UTF8 = "the entry is not UTF-8; save the list as UTF-8"


@dataclass(frozen=True, kw_only=True, slots=True)
class RefusedEntry:
    """An entry of a list that is not read, or a damaged container: the name in its row, and why."""

    uri: str
    error_type: str
    reason: str


def file_of_entry(entry: Entry, list_uri: str) -> FileInfo | RefusedEntry:
    """The file that an entry of the list at `list_uri` names; for a remote file, with the version given in the list."""
    shown, fault = storage.redact(entry.text[:LONGEST]), entry.fault
    if len(entry.text) > LONGEST:
        fault = f"{len(entry.text)} characters are too long for a name"
    if fault is not None:
        return RefusedEntry(uri=shown, error_type="read_failed", reason=f"a faulty line of the list: {fault}")
    try:
        uri = _resolve(entry.text, list_uri)
        sources.refuse_on_web(uri)
    except ValueError as error:
        return RefusedEntry(uri=shown, error_type="read_failed", reason=f"a faulty entry of the list: {error}")
    if not storage.is_local(uri):
        if not storage.is_http(uri) and _is_not_utf8(uri):
            return RefusedEntry(uri=shown, error_type="read_failed", reason=_NOT_UTF8)
        return FileInfo(uri=uri, size_bytes=entry.size_bytes, etag=entry.etag, modified=entry.modified)
    if not storage.is_local(list_uri):
        reason = "a list that comes over a network cannot name files on this machine"
        return RefusedEntry(uri=uri, error_type="access_denied", reason=reason)
    file = _local_file(uri)
    if file.modified is None and _is_not_utf8(uri):
        return RefusedEntry(uri=uri, error_type="not_found", reason=f"no such file; {_NOT_UTF8}")
    return file


def _is_not_utf8(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= one <= "\udcff" for one in text)


def _resolve(entry: str, list_uri: str) -> str:
    """The normalized URI of an entry; a relative path starts at the folder of the list."""
    file, member = sources.split(entry)
    return _resolve_file(file, list_uri) + member


def _resolve_file(entry: str, list_uri: str) -> str:
    if not storage.is_local(entry) or entry.startswith("/") or entry.lower().startswith("file://"):
        return storage.normalize(entry)
    if storage.is_local(list_uri):
        return storage.normalize(storage.join(posixpath.dirname(list_uri), entry))
    scheme, _, place = storage.redact(list_uri).partition("://")
    return storage.normalize(f"{scheme}://{posixpath.normpath(f'{posixpath.dirname(place)}/{entry}')}")


def _local_file(uri: str) -> FileInfo:
    """The file of a local entry. If it is missing, a folder or an impossible name, reading it later reports that."""
    for spelling in spellings(uri):
        try:
            return sources.info(spelling)
        except (OSError, ValueError):
            continue
    return FileInfo(uri=uri)


def spellings(uri: str) -> list[str]:
    """A name as written, then composed and decomposed: `é` may be one character or two, in a list and on a disk."""
    forms = [uri, unicodedata.normalize("NFC", uri), unicodedata.normalize("NFD", uri)]
    return list(dict.fromkeys(forms)) if not uri.isascii() else [uri]


def as_stored(uri: str) -> str:
    """A URI as tables store it: two entries that are equal there would be the same row."""
    return storage.redact(uri).encode("utf-8", "backslashreplace").decode()
