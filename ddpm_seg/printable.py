"""Makes text safe for a terminal and a log: a file name may move the cursor, hide text or fake a line of its own.

Tables keep names unchanged.
"""

from __future__ import annotations

import logging
import unicodedata


def printable(text: str, *, keep: str = "") -> str:
    r"""`text` with control, formatting and unassigned characters replaced by escapes such as `\x1b` and `\n`.

    Characters in `keep` stay; pass `"\n"` for text that has several lines on purpose.
    """
    if text.isprintable():
        return text
    return "".join(one if one in keep or _is_harmless(one) else _escaped(one) for one in text)


def _is_harmless(one: str) -> bool:
    return one.isprintable() or unicodedata.category(one) == "Zs"


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")


class PrintableFormatter(logging.Formatter):
    """A `logging.Formatter` that makes arguments, such as file names, printable.

    Line breaks of the message itself and of tracebacks stay; those inside arguments are escaped.
    """

    def format(self, record: logging.LogRecord) -> str:
        safe = logging.makeLogRecord(record.__dict__)
        keep = "\n\t" if "\n" in str(record.msg) else ""  # a multi-line message has a traceback as an argument
        if isinstance(record.args, tuple):
            safe.args = tuple(_safe_argument(argument, keep) for argument in record.args)
        return printable(super().format(safe), keep="\n\t")


def _safe_argument(argument: object, keep: str) -> object:
    return printable(str(argument), keep=keep) if isinstance(argument, str | BaseException) else argument
