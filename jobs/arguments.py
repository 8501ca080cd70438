"""Command line and YAML to a job's configuration dataclass; the flags are the dataclass's fields."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TypeVar

import tyro
import yaml

T = TypeVar("T")

TOO_MANY_ERRORS = 3
"""Exit status of a job that stopped itself because too much of its input is broken."""

INTERRUPTED = 4
"""Exit status of a job that the same command goes on with."""

ALREADY_RUNNING = 5
"""Exit status of a job that found another one at the same work."""


def parse(config: type[T], argv: list[str] | None = None, *, description: str) -> T:
    """Reads `config` from flags (`--shard-size 1000`); `--config FILE.yaml` gives defaults that flags override.

    Exits with status 2 and one message for an unknown flag, an unknown key or a value of the wrong type.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    defaults = _as_flags(config, _take_config_file(arguments))
    about_config = "--config FILE.yaml holds any of these options (shard_size: 1000); flags override it."
    return tyro.cli(
        config,
        prog=f"python -m jobs.{Path(sys.argv[0]).stem}",
        args=[*defaults, *arguments],
        description=f"{description}\n\n{about_config}",
    )


def _take_config_file(arguments: list[str]) -> dict[str, object]:
    """Removes `--config FILE` from `arguments` and returns the file's mapping."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name != "--config":
            continue
        if not equals and index + 1 == len(arguments):
            stop("--config needs a file: --config FILE.yaml")
        path = value if equals else arguments[index + 1]
        del arguments[index : index + (1 if equals else 2)]
        return _read_yaml(path)
    return {}


def _read_yaml(path: str) -> dict[str, object]:
    try:
        values = yaml.safe_load(Path(path).read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        stop(f"--config {path}: {error}")
    if not isinstance(values, dict):
        stop(f"--config {path}: expected a mapping such as 'shard_size: 1000', got {type(values).__name__}")
    return {str(key).replace("-", "_"): value for key, value in values.items()}


def _as_flags(config: type, values: dict[str, object]) -> list[str]:
    """YAML values as flags in front of the user's own, so that both go through one parser and the last one wins."""
    fields = {field.name for field in dataclasses.fields(config)}
    if unknown := sorted(set(values) - fields):
        stop(f"--config: unknown key {unknown[0]!r}; known keys: {', '.join(sorted(fields))}")
    flags: list[str] = []
    for key, value in values.items():
        flag = "--" + key.replace("_", "-")
        if isinstance(value, bool):
            flags.append(flag if value else "--no-" + key.replace("_", "-"))
        elif isinstance(value, list):
            flags += [flag, *map(str, value)]
        elif value is not None:
            flags.append(f"{flag}={value}")
    return flags


def stop(message: str) -> None:
    """Ends the job for a mistake that the user can mend: one line on stderr, exit status 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)
