"""Reads untrusted JSON into dataclasses: every type is checked before anything is built."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

MAX_DEPTH = 50
"""Nesting of lists and objects. Ours are at most 6 deep."""
MAX_INTEGER = 2**63

_PLAIN = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}


def parse_object(data: bytes) -> dict[str, Any]:
    """Parses a JSON object. Raises ValueError for anything else, for a repeated key and for deep nesting.

    NaN, Infinity and numbers too large for a float become null: the bundles of diverged trainings have some where they
    do not matter, and where a number is needed, null is refused later.
    """
    try:
        content = json.loads(data, object_pairs_hook=_once, parse_constant=lambda _: None, parse_float=_finite)
    except RecursionError:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep") from None
    except ValueError as error:
        raise ValueError(f"it is not JSON: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise ValueError(f"it must hold a JSON object, got {type(content).__name__}")
    _refuse_deep(content)
    return content


def from_json(cls: type[T], values: object, section: str) -> T:
    """The dataclass `cls` with fields from the JSON object `values`.

    Raises ValueError naming the key, its value and what was expected.
    """
    given = as_object(values, section)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(given) - set(fields)):
        raise ValueError(f"{section}.{shown(unknown[0])} is unknown; expected only {', '.join(fields)}")
    for name, field in fields.items():
        if name not in given and field.default is dataclasses.MISSING:
            raise ValueError(f"{section}.{name} is missing")
    hints = get_type_hints(cls)
    typed = {name: _typed(hints[name], value, f"{section}.{name}") for name, value in given.items()}
    try:
        return cls(**typed)
    except ValueError as error:
        raise ValueError(f"{section}: {error}") from error


def as_object(value: object, name: str) -> dict[str, Any]:
    """`value`, if it is a JSON object; else raises ValueError."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is {shown(value)}, expected an object")
    return value


def as_count(value: object, name: str, most: int) -> int:
    """`value`, if it is an integer from 0 to `most`; else raises ValueError."""
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{name} is {shown(value)}, expected an integer from 0 to {most}")
    return value


def shown(value: object) -> str:
    """`value` for a message: short, on one line."""
    if isinstance(value, dict):
        return f"an object of {len(value)}"
    if isinstance(value, list) and len(value) > 8:
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) >= MAX_INTEGER:
        return "a huge integer"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def one_line(error: BaseException) -> str:
    """An error about an untrusted file, which it may quote: short, on one line."""
    text = "".join(character if character.isprintable() else " " for character in str(error))
    return text if len(text) <= 300 else f"{text[:297]}..."


def _typed(hint: Any, value: Any, key: str) -> Any:
    """`value` in the type `hint` of a field: JSON has only lists, configurations have tuples."""
    choices = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None and NoneType in choices:
        return None
    hint = next(choice for choice in choices if choice is not NoneType)
    if get_origin(hint) is tuple and isinstance(value, list | tuple):
        return tuple(_typed(get_args(hint)[0], one, f"{key}[{index}]") for index, one in enumerate(value))
    if not _fits(hint, value):
        raise ValueError(f"{key} is {shown(value)}, expected {_expected(hint)}")
    return value


def _fits(hint: Any, value: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) is dict:
        return isinstance(value, dict)
    if hint is float:
        # Keep integers: 1 and 1.0 are written differently, and a model's id is a digest of what is written.
        return type(value) is float or (type(value) is int and abs(value) < MAX_INTEGER)
    return type(value) is hint and (hint is not int or abs(value) < MAX_INTEGER)


def _expected(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list, each {_expected(get_args(hint)[0])}"
    if get_origin(hint) is dict:
        return "an object"
    return _PLAIN[hint]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError(f"{shown(Counter(name for name, _ in pairs).most_common(1)[0][0])} appears twice")
    return values


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


def _refuse_deep(content: object) -> None:
    level = [content]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
        if not level:
            return
    raise ValueError(f"it is nested more than {MAX_DEPTH} deep")
