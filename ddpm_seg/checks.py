"""Checks that configurations share. Their messages name the flag, its value and what was expected."""

from __future__ import annotations

import math


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
