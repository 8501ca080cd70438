"""What `sources` asks of a kind of file that holds many images, such as an archive or a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import BinaryIO, Protocol


class Container(Protocol):
    """One such file, opened. Strangers may have made it: whatever its bytes are, neither time nor memory may explode.

    `sources` keeps it open for as long as its images are read, and calls it from one thread at a time.
    """

    def names(self) -> Iterable[str]:
        """A name for each image, in the order of the file, no name twice. May fail on the way, in a damaged file."""

    def read(self, name: str, max_bytes: int) -> bytes:
        """The image's bytes, or `max_bytes + 1` of them where there are more. FileNotFoundError for any other name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """A kind of container."""

    suffixes: tuple[str, ...]
    """Endings of its files' names, in lower case: `(".zip",)`."""
    open: Callable[[BinaryIO], Container | None]
    """Opens a file that can be read in parts. None for one that holds no images after all: a table of other things."""
    errors: tuple[type[Exception], ...] = ()
    """What `open` and the container raise for a damaged file, beside OSError and ValueError."""
