"""What libraries quote of a file in their errors is left out: a list may name a file that is no image but a secret."""

from __future__ import annotations

import re

# Bytes as Python shows them, and file content as Pillow quotes it for a text file that begins like a PGM.
_CONTENT = re.compile(
    r"""\bb'(?:[^'\\]|\\.)*'? | \bb"(?:[^"\\]|\\.)*"? | (?<=header:\ ).+ | (?<=in\ file:\ ).+ | (?<=in\ data:\ ).+""",
    re.DOTALL | re.VERBOSE,
)


def without_content(text: str) -> str:
    """A library's error message without the bytes that it quotes from the file, which may contain a secret."""
    return _CONTENT.sub("…", text)
