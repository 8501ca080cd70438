"""The text of --help, wrapped to the terminal, without the line breaks that descriptions have in the source."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import shutil
import sys
import textwrap
import typing

import docstring_parser
import tyro

_WIDTH = 80


def print_help(config: type, program: str, about: str) -> None:
    """Prints what `program` does, and its options: the fields of the dataclass `config` with their descriptions."""
    printed = _LikeStdout()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        tyro.cli(described(config), prog=program, args=["--help"], description="")
    _, _, options = printed.getvalue().partition("\n")
    print(f"usage: {program} [OPTIONS]\n\n{_filled(about)}\n\n{options.strip()}")


class _LikeStdout(io.StringIO):
    """Text for which tyro chooses the colours and boxes that the terminal can show."""

    encoding = property(lambda _: sys.__stdout__ and sys.__stdout__.encoding)

    def isatty(self) -> bool:
        return sys.__stdout__ is not None and sys.__stdout__.isatty()


def described(config: type) -> type:
    """A dataclass with the fields of `config` whose metadata holds their descriptions.

    tyro can read descriptions from the source itself, but keeps the line breaks there, which show in --help and break
    completion in bash.
    """
    about = {
        param.arg_name: " ".join((param.description or "").split())
        for base in reversed(config.__mro__[:-1])
        for param in docstring_parser.parse_from_object(base).params
    }
    types = typing.get_type_hints(config)
    fields = [
        # None is tyro's word for an option that is not given, which nobody types.
        (
            one.name,
            typing.Annotated[types[one.name], tyro.conf.DisallowNone],
            dataclasses.field(default=one.default, metadata={"help": about.get(one.name)}),
        )
        for one in dataclasses.fields(config)
    ]
    return dataclasses.make_dataclass(config.__name__, fields, kw_only=True)


def _filled(text: str) -> str:
    """`text` with each paragraph wrapped anew. Indented lines, which are commands, stay as they are."""
    width = min(_WIDTH, shutil.get_terminal_size().columns)
    blocks = itertools.groupby(text.strip().splitlines(), key=lambda line: not line or line.startswith(" "))
    return "\n".join(
        line
        for as_is, lines in blocks
        for line in (lines if as_is else textwrap.wrap(" ".join(lines), width, break_on_hyphens=False))
    )
