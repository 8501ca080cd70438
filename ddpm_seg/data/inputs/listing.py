"""Lists the images of an input: a folder or prefix, a pattern, one file, or a file that lists URIs."""

from __future__ import annotations

import csv
import posixpath
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import PurePosixPath

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.data.decoding.formats import EXTENSIONS
from ddpm_seg.data.inputs import lists
from ddpm_seg.data.inputs.hidden import is_hidden_name
from ddpm_seg.storage import FileInfo

_NOT_UTF8 = "the entry is not UTF-8; save the list as UTF-8"


@dataclass(frozen=True, kw_only=True, slots=True)
class RefusedEntry:
    """An entry of a list that is not read, under the name that its row gets, and why."""

    uri: str
    error_type: str
    reason: str


@dataclass(kw_only=True, slots=True)
class Listing:
    """The files of an input, and counts of those left out so far.

    `files` are unique and can be iterated only once; few are held in memory, even of millions.
    """

    files: Iterable[FileInfo]
    skipped: int = 0
    """Files without an image's extension."""
    hidden: int = 0
    """Hidden images and system files, such as `._x.png` and anything in `__MACOSX/`."""
    refused: tuple[RefusedEntry, ...] = ()
    """Entries of a list that each become a row with an error."""
    column: str = ""
    """For a list, the column that holds the names."""


def list_images(input_uri: str) -> Listing:
    """The images of an input.

    * a folder or `s3://bucket/prefix`: all files in it, at any depth, with an image's extension. A prefix that is not a
      folder (`s3://bucket/photos-`) means all keys that begin with it;
    * a pattern (`photos/2026-*/*.jpg`), unless a file has that very name: the matching images; if only folders match,
      the images in them;
    * an image's URI: that image (over http(s) even without an extension);
    * a list (`.txt`, `.csv`, `.tsv` or `.parquet`, see `lists`): all entries, with any extension and whether they exist
      or not, so that each gets a row in the end. Relative entries start at the list's own folder. Remote entries are
      not looked up: they have the size, ETag and time in the list, else None (see `versions`). Invalid entries, and
      local ones in a list from a network, are `refused`.

    Raises FileNotFoundError if nothing is found, ValueError if no file found is an image, or a list is empty.
    """
    uri = storage.normalize(input_uri)
    file = _single_file(uri)
    if file is not None:
        suffix = _suffix(uri)
        if suffix in lists.SUFFIXES:
            return _listed(uri, suffix)
        if suffix and suffix not in EXTENSIONS and not storage.is_http(uri):
            raise ValueError(
                f"{storage.redact(uri)} is neither an image ({_known()}) nor a list of images "
                f"({', '.join(lists.SUFFIXES)})"
            )
        return Listing(files=[file])
    found = _found(uri, is_folder=input_uri.endswith("/"))
    first = next(found, None)
    if first is None:
        raise FileNotFoundError(f"nothing found at {storage.redact(uri)}: no file, no folder with files, no prefix")
    listing = Listing(files=())
    images = _images(chain([first], found), listing, uri)
    image = next(images, None)
    if image is None:
        hidden = f", and {listing.hidden} hidden images" if listing.hidden else ""
        raise ValueError(
            f"no images at {storage.redact(uri)}: {listing.skipped} files found, none with an image's extension "
            f"({_known()}){hidden}"
        )
    listing.files = chain([image], images)
    return listing


def _found(uri: str, is_folder: bool) -> Iterator[FileInfo]:
    """Files in the folder; else those that the pattern matches; else in folders that it matches; else below the
    prefix."""
    ways: list[Callable[[str], Iterator[FileInfo]]] = [storage.list_files]
    if re.search(r"[*?\[]", uri):
        ways += [lambda pattern: iter(storage.glob(pattern)), storage.list_matching_folders]
    elif not is_folder:
        ways.append(storage.list_prefix)
    for way in ways:
        found = way(uri)
        first = next(found, None)
        if first is not None:
            return chain([first], found)
    return iter(())


def _images(files: Iterable[FileInfo], listing: Listing, uri: str) -> Iterator[FileInfo]:
    asked = _parts(uri)
    # What the user asked for by name is not hidden: a folder in ~/.cache, a pattern with a dot.
    depth = next((place for place, part in enumerate(asked) if re.search(r"[*?\[]", part)), len(asked))
    all_wanted = any(map(is_hidden_name, asked[depth:]))
    for file in files:
        if _suffix(file.uri) not in EXTENSIONS:
            listing.skipped += 1
        elif not all_wanted and any(map(is_hidden_name, _parts(file.uri)[depth:])):
            listing.hidden += 1
        else:
            yield file


def _parts(uri: str) -> list[str]:
    return uri.split("/")


def _single_file(uri: str) -> FileInfo | None:
    try:
        file = storage.info(uri)
    except (IsADirectoryError, FileNotFoundError, NotADirectoryError):
        if storage.is_http(uri):  # http has no folders to look into
            raise
        return None
    # S3 consoles and other tools create an empty object as a marker of a folder.
    is_marker = file.size_bytes == 0 and not storage.is_local(uri) and not storage.is_http(uri)
    if is_marker and next((one for one in storage.list_files(uri) if one.uri != uri), None) is not None:
        return None
    return file


def _suffix(uri: str) -> str:
    path = uri if storage.is_local(uri) else storage.redact(uri)
    return PurePosixPath(path).suffix.lower()


def _known() -> str:
    return " ".join(sorted(EXTENSIONS))


def _listed(list_uri: str, suffix: str) -> Listing:
    name = storage.redact(list_uri)
    files: dict[str, FileInfo] = {}
    refused: dict[str, RefusedEntry] = {}
    try:
        data = storage.read_bytes(list_uri, max_bytes=lists.MAX_BYTES)
        found = lists.read_list(data, suffix)
        for entry in found.entries:
            file = _entry(entry, list_uri)
            if isinstance(file, FileInfo):
                files[file.uri] = file
            else:
                refused[_as_stored(file.uri)] = file
    except (ValueError, csv.Error, pa.ArrowException) as error:
        raise ValueError(f"{name} cannot be read as a list of URIs: {error}") from error
    if not files and not refused:
        raise ValueError(f"{name} lists no images")
    if refused:
        for uri in files:  # a row cannot be both
            refused.pop(_as_stored(uri), None)
    return Listing(
        files=[files[uri] for uri in sorted(files)],
        refused=tuple(refused[uri] for uri in sorted(refused)),
        column=found.column,
    )


def _as_stored(uri: str) -> str:
    """A URI as tables store it: two entries that are equal there would be the same row."""
    return storage.redact(uri).encode("utf-8", "backslashreplace").decode()


def _entry(entry: lists.Entry, list_uri: str) -> FileInfo | RefusedEntry:
    shown, fault = storage.redact(entry.text[: lists.LONGEST]), entry.fault
    if len(entry.text) > lists.LONGEST:
        fault = f"{len(entry.text)} characters are too long for a name"
    if fault is not None:
        return RefusedEntry(uri=shown, error_type="read_failed", reason=f"a faulty line of the list: {fault}")
    try:
        uri = _resolve(entry.text, list_uri)
    except ValueError as error:
        return RefusedEntry(uri=shown, error_type="read_failed", reason=f"a faulty entry of the list: {error}")
    if not storage.is_local(uri):
        if not storage.is_http(uri) and _is_not_utf8(uri):
            return RefusedEntry(uri=shown, error_type="read_failed", reason=_NOT_UTF8)
        return FileInfo(uri=uri, size_bytes=entry.size_bytes, etag=entry.etag, modified=entry.modified)
    if not storage.is_local(list_uri):
        reason = "a list that comes over a network cannot name files of this machine"
        return RefusedEntry(uri=uri, error_type="access_denied", reason=reason)
    file = _local_file(uri)
    if file.modified is None and _is_not_utf8(uri):
        return RefusedEntry(uri=uri, error_type="not_found", reason=f"no such file; {_NOT_UTF8}")
    return file


def _is_not_utf8(text: str) -> bool:
    return any("\udc80" <= one <= "\udcff" for one in text)


def _resolve(entry: str, list_uri: str) -> str:
    """The normalized URI of an entry; a relative path starts at the folder of the list."""
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
            return storage.info(spelling)
        except (OSError, ValueError):
            continue
    return FileInfo(uri=uri)


def spellings(uri: str) -> list[str]:
    """A name as written, then composed and decomposed: `é` may be one character or two, in a list and on a disk."""
    forms = [uri, unicodedata.normalize("NFC", uri), unicodedata.normalize("NFD", uri)]
    return list(dict.fromkeys(forms)) if not uri.isascii() else [uri]
