"""Text for a terminal and a log: a name may hold what moves the cursor, hides text or begins a line of its own.

Tables keep names as they are.
"""

from __future__ import annotations

import logging
import re
import unicodedata

# How Python shows bytes, and how Pillow words what it finds in a text file that begins like a PGM.
_CONTENT = re.compile(
    r"""\bb'(?:[^'\\]|\\.)*'? | \bb"(?:[^"\\]|\\.)*"? | (?<=header:\ ).+ | (?<=in\ file:\ ).+ | (?<=in\ data:\ ).+""",
    re.DOTALL | re.VERBOSE,
)


def printable(text: str, *, keep: str = "") -> str:
    r"""`text` on one line; control, formatting and unassigned characters become escapes such as `\x1b` and `\n`.

    Characters in `keep` stay: `"\n"` for text that was laid out in lines on purpose.
    """
    if text.isprintable():
        return text
    return "".join(one if one in keep or _is_harmless(one) else _escaped(one) for one in text)


def _is_harmless(one: str) -> bool:
    return one.isprintable() or unicodedata.category(one) == "Zs"


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")


def without_content(text: str) -> str:
    """A library's message without the bytes of the file that it is about: they may be anything, a secret too."""
    return _CONTENT.sub("…", text)


class PrintableFormatter(logging.Formatter):
    """Formats records as `logging.Formatter`, with names from outside made safe.

    Line breaks stay where the message itself or a traceback has them, not where an argument brings them in.
    """

    def format(self, record: logging.LogRecord) -> str:
        safe = logging.makeLogRecord(record.__dict__)
        keep = "\n\t" if "\n" in str(record.msg) else ""  # a message of several lines has a traceback as argument
        if isinstance(record.args, tuple):
            safe.args = tuple(_safe_argument(argument, keep) for argument in record.args)
        return printable(super().format(safe), keep="\n\t")


def _safe_argument(argument: object, keep: str) -> object:
    return printable(str(argument), keep=keep) if isinstance(argument, str | BaseException) else argument
