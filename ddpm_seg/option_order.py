"""The order in which --help lists the options of a job."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

T = TypeVar("T")


def own_options_first(config: type[T]) -> type[T]:
    """Class decorator: --help lists the job's own options first. Dataclasses put inherited fields first."""
    fields = {field.name: field for field in dataclasses.fields(config)}  # type: ignore[arg-type]
    config.__dataclass_fields__ = {name: fields[name] for name in (*config.__annotations__, *fields)}  # type: ignore[attr-defined]
    return config
