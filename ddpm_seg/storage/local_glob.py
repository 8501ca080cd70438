"""Shell patterns on this machine's disks.

Unlike Path.glob, which leaves out folders that may not be read, so that their files would be missing without a word.
"""

from __future__ import annotations

import errno
import fnmatch
import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
"""Errors for a file that was deleted since it was listed, for a broken link, or a name that no file can have."""


def matches(pattern: str) -> Iterator[Path]:
    """The paths that an absolute pattern may mean, each once, in no particular order: after its last `*`, `?` or `[…]`
    they need not exist. `*` also matches names with a leading dot, and `**` does not follow links.

    Raises PermissionError for a folder that may not be read, and ValueError for a `**` beside other characters.
    """
    parts = [part for part in pattern.split("/") if part]
    if any("**" in part and part != "**" for part in parts):
        raise ValueError(f"{pattern}: '**' stands for folders, so it can only be between two slashes")
    waiting = [(Path("/"), 0)]  # no recursion: folders may be nested deeper than Python's stack allows
    seen: set[tuple[Path, int]] = set()  # two `**` lead to a folder in many ways
    while waiting:
        path, place = waiting.pop()
        if place == len(parts):
            yield path
        elif (path, place) not in seen:
            seen.add((path, place))
            waiting += _next(path, place, parts)


def _next(folder: Path, place: int, parts: list[str]) -> Iterator[tuple[Path, int]]:
    """Where the pattern's part at this place leads from a folder, and the place of the part that comes then."""
    part = parts[place]
    if part == "**":
        yield folder, place + 1
        for entry in _entries(folder):
            if entry.is_dir(follow_symlinks=False):
                yield folder / entry.name, place
    elif glob.has_magic(part):
        is_match, is_last = re.compile(fnmatch.translate(part)).match, place == len(parts) - 1
        for entry in _entries(folder):
            if is_match(entry.name) and (is_last or _is_folder(entry)):
                yield folder / entry.name, place + 1
    else:
        yield folder / part, place + 1


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return []
        raise


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno in NOTHING_THERE:
            return False
        raise
