"""What to list of an input, and what was found there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ddpm_seg.data.inputs.container import UNCHOSEN, Choice
from ddpm_seg.data.inputs.entries import RefusedEntry
from ddpm_seg.storage import FileInfo


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
