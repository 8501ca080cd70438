"""Checks that configurations share. Their messages name the flag, its value and what was expected."""

from __future__ import annotations

import math
import re
from typing import Any, get_args

_SHARE = re.compile(r"(\d+(?:\.\d+)?)%", re.ASCII)


def share(text: str | None) -> float | None:
    """A share such as "1%" as a fraction; None for any other text."""
    match = _SHARE.fullmatch(text) if text else None
    return float(match[1]) / 100 if match else None


def check_target(target_error: str | None, calibration: str | None) -> None:
    """Raises ValueError unless the two belong together: a target error such as "1%", and what it rests on."""
    if (target_error is None) != (calibration is None):
        raise ValueError("--target-error and --calibration need each other: give both, or neither")
    if target_error is not None and not 0 < (share(target_error) or 0) < 1:
        raise ValueError(f"--target-error must be a percentage such as 1%, got {target_error!r}")


def check_tile(tile: float | None, average: str | None, dashes: str = "--") -> None:
    """Raises ValueError for a scale outside (0, 1], and for shifts, which tiles cannot have.

    `dashes` stand before the names of the options; in Python there are none.
    """
    if tile is not None and not 0 < tile <= 1:
        raise ValueError(f"{dashes}tile must be a scale above 0 and at most 1, got {tile}")
    if tile is not None and average == "shifts":
        raise ValueError(
            f"{dashes}tile already shows the network each pixel several times: leave out {dashes}average shifts"
        )


def check_choice(name: str, value: object, choices: Any) -> None:
    """Raises ValueError unless `value` is one of a Literal's `choices`. None is allowed."""
    if value is not None and value not in get_args(choices):
        raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, got {value!r}")


def check_least(config: object, **least: float) -> None:
    """Raises ValueError if a field of `config` is below the bound given for it or not finite. None is allowed."""
    for name, bound in least.items():
        value = getattr(config, name)
        if value is not None and not bound <= value < math.inf:
            raise ValueError(f"{flag(name)} must be at least {bound}, got {value}")


def check_positive(config: object, *names: str) -> None:
    """Raises ValueError if one of the fields `names` of `config` is not above 0 or not finite. None is allowed."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{flag(name)} must be positive, got {value}")


def flag(name: str) -> str:
    """The command-line flag of a configuration field: `shard_size` becomes `--shard-size`."""
    return f"--{name.replace('_', '-')}"
