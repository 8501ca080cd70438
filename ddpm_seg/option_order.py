"""The order in which --help lists the options of a job."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

T = TypeVar("T")


def own_options_first(config: type[T]) -> type[T]:
    """Class decorator: --help lists the options of the last base class, which many jobs share, after all others.

    Dataclasses put inherited fields first.
    """
    fields = {field.name: field for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    own = [name for base in reversed(config.__mro__[:-2]) for name in vars(base).get("__annotations__", {})]
    config.__dataclass_fields__ = {name: fields[name] for name in (*own, *fields)}  # type: ignore[attr-defined]
    return config
