"""Markdown tables, as all jobs write and print them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"[\\`*\[<|~&]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is one to Markdown too


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The `rows` under `header`, one per line, which is followed by a newline. Every cell is shown as it is: class
    names such as "head***ear" would otherwise be set in bold italics, and a | would begin a cell."""
    lines = [[_escaped(cell) for cell in header], ["---"] * len(header)]
    lines += [[_escaped(cell) for cell in row] for row in rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def _escaped(cell: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", " ".join(cell.split()))
