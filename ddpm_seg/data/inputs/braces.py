"""Expands braces as shells do: `{00000..00099}.tar` and `{train,test}/*.jpg` name several files at once."""

from __future__ import annotations

import re

MOST = 1_000_000

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(-?\d{1,9})\.\.(-?\d{1,9})(?:\.\.(-?\d{1,9}))?", re.ASCII)


def expand(pattern: str) -> list[str] | None:
    """All names that a pattern stands for, each once, in order; None if it has no braces to expand.

    Numbers keep their leading zeros. Braces without a comma or a range are part of a name. Raises ValueError for more
    than `MOST` names.
    """
    found = next((match for match in _BRACES.finditer(pattern) if _words(match[1]) is not None), None)
    if found is None:
        return None
    words = _words(found[1]) or []
    names: dict[str, None] = {}
    for word in words:
        head, tail = pattern[: found.start()] + word, pattern[found.end() :]
        for rest in expand(tail) or [tail]:
            names[head + rest] = None
        if len(names) > MOST:
            raise ValueError(f"{pattern} stands for more than {MOST} names; use a pattern with * instead")
    nested = [expand(name) for name in names] if "{" in pattern[: found.start()] else []
    if any(nested):
        names = {one: None for name, more in zip(names, nested, strict=True) for one in more or [name]}
    return list(names)


def _words(inside: str) -> list[str] | None:
    """The words that one pair of braces stands for; None if it stands for itself."""
    match = _RANGE.fullmatch(inside)
    if match is None:
        return inside.split(",") if "," in inside else None
    first, last, step = int(match[1]), int(match[2]), abs(int(match[3] or 1)) or 1
    if abs(last - first) // step >= MOST:
        raise ValueError(f"{{{inside}}} stands for more than {MOST} names; use a pattern with * instead")
    width = max((len(part) for part in match.groups()[:2] if re.match(r"-?0\d", part)), default=0)
    numbers = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
    return [f"{number:0{width}d}" for number in numbers]
