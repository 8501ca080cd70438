"""Checks that configurations share: each names the flag, its value and what was expected."""

from __future__ import annotations

import math


def check_least(config: object, **least: float) -> None:
    """Raises ValueError for a field of `config` below its least value, or not finite. None and absent ones are left."""
    for name, bound in least.items():
        value = getattr(config, name)
        if value is not None and not bound <= value < math.inf:
            raise ValueError(f"{flag(name)} must be at least {bound}, got {value}")


def check_positive(config: object, *names: str) -> None:
    """Raises ValueError for a field of `config` that is not over 0, or not finite; None is left."""
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{flag(name)} must be positive, got {value}")


def flag(name: str) -> str:
    """A field's name as it is spelled on the command line."""
    return f"--{name.replace('_', '-')}"
