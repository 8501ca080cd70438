"""Lists the images of an input: a folder or prefix, a pattern, one file, or a file that lists URIs."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import PurePosixPath

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.data.decoding.formats import EXTENSIONS
from ddpm_seg.data.inputs import braces, lakehouse, lists, sources
from ddpm_seg.data.inputs.container import UNCHOSEN, Choice
from ddpm_seg.data.inputs.entries import RefusedEntry, as_stored, file_of_entry
from ddpm_seg.data.inputs.hidden import is_hidden_name
from ddpm_seg.storage import FileInfo

ASKERS = 32  # names in braces that are looked up at once


@dataclass(kw_only=True, slots=True)
class Listing:
    """The images of an input, and what was left out so far.

    `files` are unique and can be iterated only once; few are held in memory, even of millions.
    """

    files: Iterable[FileInfo]
    skipped: int = 0
    """Files without an image's extension, and containers without images."""
    hidden: int = 0
    """Hidden images and system files, such as `._x.png` and anything in `__MACOSX/`."""
    refused: list[RefusedEntry] = field(default_factory=list)
    """Entries of a list and damaged containers that each become a row with an error. Complete only after iterating
    `files`."""
    column: str = ""
    """For a list, the column that holds the names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """What to list: of tars and tables, which images (`choice`) and whether each of these files is listed as a whole
    instead; of tables of URIs, the column."""

    choice: Choice = UNCHOSEN
    whole: bool = False
    uri_column: str | None = None


EVERYTHING = Wanted()


def list_images(input_uri: str, wanted: Wanted = EVERYTHING) -> Listing:
    """The images of an input.

    * a folder or `s3://bucket/prefix`: all files in it, at any depth, with an image's extension, and all images in its
      containers (see `sources`). A prefix that is not a folder (`s3://bucket/photos-`) means all keys that begin with
      it;
    * a pattern (`photos/2026-*/*.jpg`), unless a file has that very name: the matching images; if only folders match,
      the images in them;
    * several such names at once (`{00000..00099}.tar`, see `braces`): what each of them names, and each must exist;
    * an image's URI: that image (over http(s) even without an extension);
    * a container: all images in it;
    * the folder of a Delta, Iceberg or Lance table: its current files, as if they were given (see `lakehouse`);
    * a list (`.txt`, `.csv`, `.tsv` or `.parquet`, see `lists`): all entries, with any extension and whether they exist
      or not, so that each gets a row in the end; for a container, the images in it. Relative entries start at the
      list's own folder. Remote entries are not looked up: they have the size, ETag and time in the list, else None (see
      `versions`). Invalid entries, and local ones in a list from a network, are `refused`.

    Raises FileNotFoundError if nothing is found, ValueError if no file found is an image, or a list is empty.
    """
    uri = sources.normalize(input_uri)
    file = _single_file(uri)
    if file is not None:
        return _of_one_file(file, wanted)
    named = braces.expand(uri)
    found = _found(uri, is_folder=input_uri.endswith("/")) if named is None else _all_named(named, uri)
    if wanted.uri_column is not None:
        return _listed([file.uri for file in found if _suffix(file.uri) in lists.TABLES], wanted, uri)
    first = next(found, None)
    if first is None:
        raise FileNotFoundError(f"nothing found at {storage.redact(uri)}: no file, no folder with files, no prefix")
    listing = Listing(files=())
    images = _images(chain([first], found), listing, uri, wanted)
    image = next(images, None)
    if image is None and not listing.refused:
        hidden = f", and {listing.hidden} hidden images" if listing.hidden else ""
        raise ValueError(
            f"no images at {storage.redact(uri)}: {listing.skipped} files found, none with an image's extension "
            f"({_known()}) or with images in it ({_known_containers()}){hidden}"
        )
    listing.files = chain([image] if image else [], images)
    return listing


def files_named(uri: str) -> Iterator[FileInfo]:
    """All files that a name stands for: itself, those in a folder, those that a pattern or braces name. None if it
    names nothing."""
    uri = sources.normalize(uri)
    file = _single_file(uri)
    if file is not None:
        return iter([file])
    named = braces.expand(uri)
    return _found(uri, is_folder=False) if named is None else _all_named(named, uri)


def _all_named(named: Sequence[str], pattern: str) -> Iterator[FileInfo]:
    """What each of the names stands for: a file, a folder, or a pattern. Raises FileNotFoundError if one does not
    exist."""
    with ThreadPoolExecutor(ASKERS) as askers:
        for uri, file in zip(named, askers.map(_single_file, named), strict=True):
            found = iter([file]) if file is not None else _found(uri, is_folder=False)
            first = next(found, None)
            if first is None:
                raise FileNotFoundError(
                    f"nothing found at {storage.redact(uri)}, which {storage.redact(pattern)} names"
                )
            yield first
            yield from found


def _of_one_file(file: FileInfo, wanted: Wanted) -> Listing:
    """The listing of a single file: a container, a list, or an image."""
    uri, suffix = file.uri, _suffix(file.uri)
    if wanted.uri_column is not None and suffix in lists.TABLES:
        return _listed([uri], wanted, uri)
    if sources.is_container(uri):
        listing = _of_container(file, wanted)
        if listing is not None:
            return listing
    if suffix in lists.SUFFIXES:
        return _listed([uri], wanted, uri)
    if suffix and suffix not in EXTENSIONS and not storage.is_http(uri) and not sources.is_in_container(uri):
        raise ValueError(
            f"{storage.redact(uri)} is neither an image ({_known()}) nor a list of images ({', '.join(lists.SUFFIXES)})"
        )
    return Listing(files=[file])


def _of_container(file: FileInfo, wanted: Wanted) -> Listing | None:
    """The images in a container, or None if the file turns out not to be one. Raises ValueError if it has no images."""
    uri = file.uri
    try:
        found = sources.images_in(uri, wanted.choice)
        if found is None:
            return None
        first = next(found, None)
    except ValueError as error:
        if _suffix(uri) in lists.SUFFIXES and isinstance(error, sources.ContainerError):
            return None
        raise ValueError(f"{storage.redact(uri)}: {error}") from error
    if first is None:
        raise ValueError(f"no images in {storage.redact(uri)}{_chosen(wanted)}")
    if wanted.whole and sources.is_indexed(uri):
        return Listing(files=[file])
    listing = Listing(files=())
    listing.files = chain([first], _until_damage(found, uri, listing))
    return listing


def _in_container(file: FileInfo, listing: Listing, wanted: Wanted, *, is_listed: bool = False) -> Iterator[FileInfo]:
    """Yields the images of one container among other files, or the container itself if it is wanted as a whole. A file
    that turns out not to be one counts only if `is_listed`."""
    refused, images = len(listing.refused), 0
    for image in _until_damage(_images_or_file(file, wanted, is_listed), file.uri, listing):
        images += 1
        yield image
    if not images and len(listing.refused) == refused:
        listing.skipped += 1


def _images_or_file(file: FileInfo, wanted: Wanted, is_listed: bool) -> Iterator[FileInfo]:
    if wanted.whole and sources.is_indexed(file.uri):
        if is_listed or sources.holds_images(file.uri, wanted.choice):
            yield file
        return
    images = sources.images_in(file.uri, wanted.choice)
    if images is not None:
        yield from images
    elif is_listed:
        yield file


def _until_damage(images: Iterator[FileInfo], uri: str, listing: Listing) -> Iterator[FileInfo]:
    """Yields the images up to any damage; a container that cannot be read on becomes one refused entry."""
    try:
        yield from images
    except (OSError, ValueError) as error:
        if sources.is_outage(error, uri):
            raise
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        reason = f"not all images in it can be read: {reason}"
        listing.refused.append(RefusedEntry(uri=uri, error_type=sources.error_type(error), reason=reason))


def _found(uri: str, is_folder: bool) -> Iterator[FileInfo]:
    """Files in the folder; else those that the pattern matches; else in folders that it matches; else below the
    prefix."""
    ways: list[Callable[[str], Iterator[FileInfo]]] = [_of_table, storage.list_files]
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


def _of_table(uri: str) -> Iterator[FileInfo]:
    """The files of a table of Delta, Iceberg or Lance."""
    files = lakehouse.files_of_table(uri)
    return iter(()) if files is None else _infos(files)


def _infos(uris: Sequence[str]) -> Iterator[FileInfo]:
    with ThreadPoolExecutor(ASKERS) as askers:
        yield from askers.map(lambda uri: sources.info(uri, listed=True), uris)


def _images(files: Iterable[FileInfo], listing: Listing, uri: str, wanted: Wanted) -> Iterator[FileInfo]:
    asked = _parts(uri)
    # What the user asked for by name is not hidden: a folder in ~/.cache, a pattern with a dot.
    depth = next((place for place, part in enumerate(asked) if re.search(r"[*?\[{]", part)), len(asked))
    all_wanted = any(map(is_hidden_name, asked[depth:]))
    for file in files:
        is_image = _suffix(file.uri) in EXTENSIONS
        lakehouse.refuse_files_of_table(file.uri)
        if not is_image and not sources.is_container(file.uri):
            listing.skipped += 1
        elif not all_wanted and any(map(is_hidden_name, _parts(file.uri)[depth:])):
            listing.hidden += 1
        elif is_image:
            yield file
        else:
            yield from _in_container(file, listing, wanted)


def _parts(uri: str) -> list[str]:
    return uri.split("/")


def _single_file(uri: str) -> FileInfo | None:
    try:
        file = sources.info(uri)
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


def _known_containers() -> str:
    return " ".join(sorted(suffix for kind in sources.KINDS for suffix in kind.suffixes))


def _chosen(wanted: Wanted) -> str:
    flags = {"--image-key": wanted.choice.image_key, "--image-column": wanted.choice.image_column}
    named = [f"{flag} {value}" for flag, value in flags.items() if value]
    return f" ({', '.join(named)})" if named else ""


def _listed(list_uris: Sequence[str], wanted: Wanted, uri: str) -> Listing:
    """The listing of what these lists name; `uri` is what the user named."""
    files: dict[str, FileInfo] = {}
    refused: dict[str, RefusedEntry] = {}
    column = ""
    for list_uri in list_uris:
        column = _add_list(list_uri, wanted.uri_column, files, refused)
    if not files and not refused:
        tables = "" if list_uris else f": no file {' '.join(lists.TABLES)} there, as --uri-column needs"
        raise ValueError(f"{storage.redact(uri)} lists no images{tables}")
    if refused:
        for name in files:  # a row cannot be both
            refused.pop(as_stored(name), None)
    listed = [files[name] for name in sorted(files)]
    listing = Listing(files=listed, refused=[refused[name] for name in sorted(refused)], column=column)
    if any(map(sources.is_container, files)):
        listing.files = _with_containers_opened(listed, listing, wanted)
    return listing


def _add_list(
    list_uri: str, uri_column: str | None, files: dict[str, FileInfo], refused: dict[str, RefusedEntry]
) -> str:
    """Adds what one list names; returns what its column is called."""
    suffix = _suffix(list_uri)
    if suffix == ".parquet" and uri_column is None:
        _refuse_sidecar(list_uri)
    try:
        data = storage.read_bytes(list_uri, max_bytes=lists.MAX_BYTES)
        found = lists.read_list(data, suffix, uri_column)
        for entry in found.entries:
            file = file_of_entry(entry, list_uri)
            if isinstance(file, FileInfo):
                files[file.uri] = file
            else:
                refused[as_stored(file.uri)] = file
    except (ValueError, csv.Error, pa.ArrowException) as error:
        raise ValueError(f"{storage.redact(list_uri)} cannot be read as a list of URIs: {error}") from error
    return found.column


def _refuse_sidecar(list_uri: str) -> None:
    """Raises ValueError for a table that img2dataset writes beside a tar: it names where the images came from."""
    tar = list_uri.removesuffix(PurePosixPath(list_uri).suffix) + ".tar"
    if not storage.is_http(list_uri) and storage.exists(tar):
        raise ValueError(
            f"{storage.redact(list_uri)} describes the images in {storage.redact(tar)}, and its URLs are where they "
            f"came from: label {storage.redact(tar)} instead, or give --uri-column to fetch the URLs again"
        )


def _with_containers_opened(files: list[FileInfo], listing: Listing, wanted: Wanted) -> Iterator[FileInfo]:
    containers = {file.uri for file in files if sources.is_container(file.uri)}
    inside = {file.uri: file for file in files if sources.split(file.uri)[0] in containers - {file.uri}}
    found = set()
    for file in files:
        if file.uri in containers:
            for image in _in_container(file, listing, wanted, is_listed=True):
                if image.uri in inside:
                    found.add(image.uri)
                yield image
        elif file.uri not in inside:
            yield file
    yield from (file for uri, file in inside.items() if uri not in found)
