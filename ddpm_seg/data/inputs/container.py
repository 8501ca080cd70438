"""The interface between `sources` and a kind of file that holds many images, such as an archive or a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Protocol


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """One image in a container, and where it is."""

    name: str
    start: int
    """Where its bytes are: an offset in a tar (in a gzipped one, within the unpacked data), a row number in a table."""
    size: int
    """In bytes; 0 in a table, which does not say."""
    end: int
    """Where the next member can be looked for: an offset, or the next row number."""
    fault: str = ""
    """Why its bytes cannot be read, if so: in a tar, that it is sparse, or a link."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """What the user said about which members of a container are its images; None leaves it to the container."""

    image_key: str | None = None
    """In a tar: the part of a member's name after the first dot, such as `jpg`."""
    image_column: str | None = None
    """In a table."""


UNCHOSEN = Choice()


class Container(Protocol):
    """An opened file with many images. The file may be untrusted: whatever its bytes, limit the time and memory it
    takes.

    `sources` keeps it open while its images are read, and calls it from one thread at a time.
    """

    def names(self) -> Iterable[str]:
        """Yields a name for each image, in the order of the file, no name twice. May fail midway in a damaged file."""

    def read(self, name: str, max_bytes: int) -> bytes:
        """The image's bytes, or the first `max_bytes + 1` if there are more. Raises FileNotFoundError for an unknown
        name."""


class IndexedContainer(Container, Protocol):
    """A container that tells where its images are, so that any number of them can be read without a search."""

    def holds_images(self, choice: Choice) -> bool:
        """Whether this file is a container of images at all. Reads little. Raises ValueError if `choice` names what it
        does not have."""

    def members(self, choice: Choice) -> Iterator[Member]:
        """Yields the images, in the order of the file, no name twice. May fail midway in a damaged file."""

    def read_members(self, members: Sequence[Member], max_bytes: int) -> Iterator[bytes | Exception]:
        """For each of these `members`, in the order of the file, its bytes, or why that one cannot be read.

        Reads them together, in as few requests as possible. Raises OSError or ValueError if no more can be read.
        """


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A kind of container."""

    suffixes: tuple[str, ...]
    """Suffixes of its files' names, in lower case: `(".zip",)`."""
    open: Callable[[BinaryIO], Container | None]
    """Opens a seekable file. Returns None if the file holds no images after all, such as a table of other things."""
    errors: tuple[type[Exception], ...] = ()
    """Exceptions that `open` and the container raise for a damaged file, besides OSError and ValueError."""
    open_indexed: Callable[[BinaryIO], IndexedContainer] | None = None
    """Like `open`, if the kind is indexed. jobs.label then plans a container as a whole, without reading it."""
