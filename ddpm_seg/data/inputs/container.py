"""The interface between `sources` and a kind of file that holds many images, such as an archive or a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO, Protocol


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A kind of container."""

    suffixes: tuple[str, ...]
    """Suffixes of its files' names, in lower case: `(".zip",)`."""
    open: Callable[[BinaryIO], Container | None]
    """Opens a seekable file. Returns None if the file holds no images after all, such as a table of other things."""
    errors: tuple[type[Exception], ...] = ()
    """Exceptions that `open` and the container raise for a damaged file, besides OSError and ValueError."""
