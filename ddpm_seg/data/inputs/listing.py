"""Lists the images of an input: a folder or prefix, a pattern, one file, or a file that lists URIs."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from ddpm_seg import storage
from ddpm_seg.data.decoding.formats import EXTENSIONS
from ddpm_seg.data.inputs import braces, inventory, lakehouse, lists, sources
from ddpm_seg.data.inputs.container_images import in_container, of_container
from ddpm_seg.data.inputs.hidden import is_hidden_name
from ddpm_seg.data.inputs.list_files import list_named
from ddpm_seg.data.inputs.wanted import EVERYTHING, Listing, Wanted
from ddpm_seg.storage import FileInfo

ASKERS = 32  # names in braces that are looked up at once
_NO_FILE = (IsADirectoryError, FileNotFoundError, NotADirectoryError)


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
    * the `manifest.json` of an S3 Inventory: the images among the objects that it lists, as if the bucket were listed;
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
        return list_named([file.uri for file in found if lists.suffix_of(file.uri) in lists.TABLES], wanted, uri)
    first = next(found, None)
    if first is None:
        raise FileNotFoundError(f"nothing found at {storage.redact(uri)}: no file, no folder with files, no prefix")
    return _of_files(chain([first], found), Listing(files=()), uri, wanted)


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


def _of_files(
    files: Iterable[FileInfo], listing: Listing, uri: str, wanted: Wanted, *, below: str | None = None
) -> Listing:
    """The listing of the images among files, which are all `below` a name (None: `uri`). Raises ValueError if there are
    none."""
    images = _images(files, listing, below or uri, wanted)
    image = next(images, None)
    if image is None and not listing.refused:
        hidden = f", and {listing.hidden} hidden images" if listing.hidden else ""
        raise ValueError(
            f"no images at {storage.redact(uri)}: {listing.skipped} files found, none with an image's extension "
            f"({_known()}) or with images in it ({_known_containers()}){hidden}"
        )
    listing.files = chain([image] if image else [], images)
    return listing


def _of_one_file(file: FileInfo, wanted: Wanted) -> Listing:
    """The listing of a single file: a container, a list, or an image."""
    uri, suffix = file.uri, lists.suffix_of(file.uri)
    if wanted.uri_column is not None and suffix in lists.TABLES:
        return list_named([uri], wanted, uri)
    if sources.is_container(uri):
        listing = of_container(file, wanted)
        if listing is not None:
            return listing
    if inventory.is_inventory(uri):
        listing = Listing(files=())
        return _of_files(inventory.files_in(uri, listing.refused), listing, uri, wanted, below="s3://BUCKET")
    if suffix in lists.SUFFIXES:
        return list_named([uri], wanted, uri)
    sources.refuse_on_web(uri)
    if suffix and suffix not in EXTENSIONS and not storage.is_http(uri) and not sources.is_in_container(uri):
        raise ValueError(
            f"{storage.redact(uri)} is neither an image ({_known()}) nor a list of images "
            f"({', '.join(lists.SUFFIXES)}, or {inventory.NAME} of an S3 Inventory)"
        )
    return Listing(files=[file])


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
        is_image = lists.suffix_of(file.uri) in EXTENSIONS
        lakehouse.refuse_files_of_table(file.uri)
        if not is_image and not sources.is_container(file.uri):
            listing.skipped += 1
        elif not all_wanted and any(map(is_hidden_name, _parts(file.uri)[depth:])):
            listing.hidden += 1
        elif is_image:
            yield file
        else:
            yield from in_container(file, listing, wanted)


def _parts(uri: str) -> list[str]:
    return uri.split("/")


def _single_file(uri: str) -> FileInfo | None:
    try:
        file = sources.info(uri)
    except OSError as error:
        # A name in braces may be too long for a file, those that it stands for are not.
        no_file = isinstance(error, _NO_FILE) or error.errno == errno.ENAMETOOLONG
        if storage.is_http(uri) or not no_file:  # http has no folders to look into
            raise
        return None
    # S3 consoles and other tools create an empty object as a marker of a folder.
    is_marker = file.size_bytes == 0 and not storage.is_local(uri) and not storage.is_http(uri)
    if is_marker and next((one for one in storage.list_files(uri) if one.uri != uri), None) is not None:
        return None
    return file


def _known() -> str:
    return " ".join(sorted(EXTENSIONS))


def _known_containers() -> str:
    return " ".join(sorted(suffix for kind in sources.KINDS for suffix in kind.suffixes))
