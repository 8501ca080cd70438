"""Docstrings and help texts read once: phrases that readers stumbled over do not come back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ddpm_seg"

# Phrase: what to write instead.
AVOIDED = {
    r"^Of\b": "begin with the noun, as in 'Seed for …', 'Channels of …'",
    r"\bas of\b": "as of means 'since'; write 'see' or 'as'",
    r"\bso many\b": "write 'this many' or 'number of'",
    r"\b[Nn]obody\b": "say what happens, or 'no …'",
    r"\bfor good\b": "write 'from then on' or 'permanently'",
    r"\bstands? (there|at|under|in|beside)\b": "write 'is' or 'exists'",
    r"\b(goes|go|going) on with\b": "write 'resumes' or 'continues'",
    r"\bwhoever\b": "name the reader or the caller",
    r"\b(is|are) not to be had\b": "write 'is missing'",
    r"\b(seconds|bytes|kB|MB|GB|images|pixels|features|values|rows|members|blocks|samples) an? "
    r"(image|pixel|class|sample|row|node|worker|actor|batch|hour|second|step|level|file)\b": "write 'per'",
    r"\bone an (image|actor)\b": "write 'one per'",
}


def _texts(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring, and of every string below a field, which --help shows."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, " ".join(node.value.value.split())


def _avoided(source: str) -> list[str]:
    return [
        f"{line}: {text[:80]!r}: {advice}"
        for line, text in _texts(source)
        for phrase, advice in AVOIDED.items()
        if re.search(phrase, text)
    ]


def test_no_docstring_or_help_text_has_a_phrase_to_avoid() -> None:
    paths = sorted(PACKAGE.rglob("*.py"))
    found = [f"{path}:{one}" for path in paths for one in _avoided(path.read_text())]
    assert paths
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ('"""Of a module."""', 1),
        ("def f():\n    '''Of a function.'''", 2),
        ('class C:\n    """Fine."""\n    seed: int = 0\n    """Of the weights."""', 4),
        ('class C:\n    async def f(self):\n        """Takes 3 seconds an\n        image."""', 3),
        ('"""Values as of `x`."""', 1),
    ],
)
def test_phrases_are_found_where_help_and_docstrings_have_them(source: str, line: int) -> None:
    (found,) = _avoided(source)
    assert found.startswith(f"{line}:")


def test_other_strings_do_not_count() -> None:
    assert not _avoided('x = "Of no docstring, as of today"\n"""A number of images."""')
