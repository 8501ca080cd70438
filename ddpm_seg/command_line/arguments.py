"""Parses the command line and a YAML file into a job's configuration dataclass, whose fields are the flags."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import os
import sys
from pathlib import Path
from typing import TypeVar

import tyro

from ddpm_seg.checks import flag
from ddpm_seg.command_line.help_text import print_help
from ddpm_seg.command_line.statuses import WRONG_USE
from ddpm_seg.printable import printable
from ddpm_seg.yaml_files import read_yaml

T = TypeVar("T")

_HELP = {"-h", "--help"}
_ABOUT_CONFIG = "--config FILE.yaml reads these options from a YAML file (key: value); flags override the file."


def parse(config: type[T], argv: list[str] | None = None, *, description: str) -> T:
    """Makes a `config` from flags (`--shard-size 1000`) and from `--config FILE.yaml`, whose values flags override.

    Exits with status 2 and one line on stderr for an unknown flag, an unknown key or a value of the wrong type.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    defaults = _as_flags(config, *_take_config_file(arguments))
    if _HELP.intersection(arguments):
        print_help(config, _program(), f"{description.strip()}\n\n{_ABOUT_CONFIG}")
        raise SystemExit(0)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed = tyro.cli(config, prog=_program(), args=[*defaults, *arguments])
    except SystemExit as end:
        # A ValueError of the configuration itself becomes one line, without the box that tyro draws around it.
        refusal = end.__context__
        if isinstance(refusal, ValueError) and f"Error parsing {config.__name__}:" in complaint.getvalue():
            stop(str(refusal))
        if hint := _without_flag(config, arguments, complaint.getvalue()):
            stop(hint)
        sys.stderr.write(complaint.getvalue())
        raise
    return _checked(parsed)


def _program() -> str:
    """The program name to show in the help, as the job was called: `ddpm-seg label` or `python -m jobs.label`."""
    called = sys.argv[0]
    return called if called.startswith("ddpm-seg ") else f"python -m jobs.{Path(called).stem}"


def _without_flag(config: type, arguments: list[str], complaint: str) -> str | None:
    """The message for a first argument without a flag, as in `ddpm-seg label photos/`; None for other errors."""
    if not arguments or arguments[0].startswith("-") or "Unrecognized" not in complaint:
        return None
    names = [field.name for field in dataclasses.fields(config)]
    wanted = next((name for name in ("input", "images", "labels", "samples", "model") if name in names), names[0])
    return f"{arguments[0]!r} has no flag before it; did you mean {flag(wanted)} {arguments[0]}?"


def _checked(config: T) -> T:
    """Checks that apply to every job: refuses empty values and numbers that are not finite, and expands `~`."""
    homes = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        name = flag(field.name)
        if value == () and field.default != ():
            stop(f"{name} has no values; give some, or leave it out")
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, float) and not math.isfinite(one):
                stop(f"{name} is {one}, expected a finite number")
            # An empty --model-flags means all defaults.
            if isinstance(one, str) and not one.strip() and field.name != "model_flags":
                stop(f"{name} is empty; give a value, or leave it out")
        home = tuple(map(_at_home, value)) if isinstance(value, tuple) else _at_home(value)
        if home != value:
            homes[field.name] = home
    return dataclasses.replace(config, **homes) if homes else config  # type: ignore[type-var]


def _at_home(value: object) -> object:
    """Expands `~`. A shell does that in `--output ~/out`, but not in `--output=~/out` or in a YAML file."""
    return os.path.expanduser(value) if isinstance(value, str) else value  # noqa: PTH111  leaves unknown users alone


def _take_config_file(arguments: list[str]) -> tuple[dict[str, object], dict[str, object]]:
    """Removes `--config FILE` from `arguments` and returns the file's mapping twice (see `read_yaml`)."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name != "--config":
            continue
        if not equals and index + 1 == len(arguments):
            stop("--config needs a file: --config FILE.yaml")
        path = value if equals else arguments[index + 1]
        del arguments[index : index + (1 if equals else 2)]
        return _read_config(path)
    return {}, {}


def _read_config(path: str) -> tuple[dict[str, object], dict[str, object]]:
    try:
        values, texts = read_yaml(Path(str(_at_home(path))).read_bytes())
    except (OSError, ValueError) as error:
        stop(f"--config {path}: {error}")
    if values is None:
        return {}, {}
    if not isinstance(values, dict):
        stop(f"--config {path}: expected a mapping such as 'shard_size: 1000', got {type(values).__name__}")
    named = ({str(key).replace("-", "_"): value for key, value in one.items()} for one in (values, texts))
    return next(named), next(named)


def _as_flags(config: type, values: dict[str, object], texts: dict[str, object]) -> list[str]:
    """YAML values as flags, to put before the user's own: one parser reads both, and the last value wins."""
    fields = {field.name: field for field in dataclasses.fields(config)}
    if unknown := sorted(set(values) - set(fields)):
        stop(f"--config: unknown key {unknown[0]!r}; known keys: {', '.join(sorted(fields))}")
    flags: list[str] = []
    for key, value in values.items():
        name, text = flag(key), texts.get(key, value)
        if isinstance(value, dict):
            stop(f"--config: {key} is a mapping; expected a value or a list")
        if isinstance(value, bool) and isinstance(fields[key].default, bool):
            flags.append(name if value else flag(f"no_{key}"))
        elif isinstance(value, list):
            if not value or any(one is None or isinstance(one, dict | list) for one in value):
                stop(f"--config: {key} is {value}; expected a list of values, or leave the key out")
            flags += [name, *map(str, text if isinstance(text, list) else value)]
        elif value is not None:
            flags.append(f"{name}={text}")
        elif fields[key].default is not None:
            stop(f"--config: {key} is empty; give a value, or leave the key out")
    return flags


def stop(message: str) -> None:
    """Ends the job because of a mistake that the user can correct: one line on stderr, exit status 2."""
    print(printable(f"error: {message}"), file=sys.stderr)
    raise SystemExit(WRONG_USE)
