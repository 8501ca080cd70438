"""Lists the images in a container, or the container itself where it is wanted as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from ddpm_seg import storage
from ddpm_seg.data.inputs import lists, sources
from ddpm_seg.data.inputs.entries import RefusedEntry
from ddpm_seg.data.inputs.wanted import Listing, Wanted
from ddpm_seg.storage import FileInfo


def of_container(file: FileInfo, wanted: Wanted) -> Listing | None:
    """The images in a container, or None if the file turns out not to be one. Raises ValueError if it has no images."""
    uri = file.uri
    try:
        found = sources.images_in(uri, wanted.choice)
        if found is None:
            return None
        first = next(found, None)
    except ValueError as error:
        if lists.suffix_of(uri) in lists.SUFFIXES and isinstance(error, sources.ContainerError):
            return None
        raise ValueError(f"{storage.redact(uri)}: {error}") from error
    if first is None:
        raise ValueError(f"no images in {storage.redact(uri)}{_chosen(wanted)}")
    if wanted.whole and sources.is_indexed(uri):
        return Listing(files=[file])
    listing = Listing(files=())
    listing.files = chain([first], _until_damage(found, uri, listing))
    return listing


def in_container(file: FileInfo, listing: Listing, wanted: Wanted, *, is_listed: bool = False) -> Iterator[FileInfo]:
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


def _chosen(wanted: Wanted) -> str:
    flags = {"--image-key": wanted.choice.image_key, "--image-column": wanted.choice.image_column}
    named = [f"{flag} {value}" for flag, value in flags.items() if value]
    return f" ({', '.join(named)})" if named else ""
