"""Checks tables and JSON files against the reference in `ddpm_seg/README.md`, for the tests of whatever writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from ddpm_seg.data.schema import IMAGE

REFERENCE = Path(__file__).parents[1] / "ddpm_seg" / "README.md"

_TABLE = re.compile(r"^<!-- schema: (.+) -->\n\|.*\n\|[-|]+\n((?:\|.*\n)+)", re.MULTILINE)
_ROW = re.compile(r"^\| `(\w+)` \| ([^|]+) \|", re.MULTILINE)

_IS: dict[str, Any] = {
    "text": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "whole number": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "list": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


def documented() -> dict[str, dict[str, str]]:
    """Every table of the reference: type by name of the column or key, in its order."""
    return {name: dict(_ROW.findall(rows)) for name, rows in _TABLE.findall(REFERENCE.read_text())}


def check_columns(name: str, schema: pa.Schema | pa.StructType) -> None:
    """Fails unless the reference lists just these columns, in this order and with these types."""
    assert {field.name: _said(field.type) for field in schema} == documented()[name]
    assert [field.name for field in schema] == list(documented()[name])


def check_keys(name: str, value: Mapping[str, Any]) -> None:
    """Fails unless an object read from JSON has the keys that the reference lists, with values of those types."""
    known = documented()[name]
    wanted = {key for key, kind in known.items() if not kind.endswith(", optional")}
    assert wanted <= set(value) <= set(known), (name, wanted ^ set(value))
    for key, one in value.items():
        kinds = known[key].removesuffix(", optional").split(" or ")
        assert any(_IS[kind](one) for kind in kinds), f"{name}: {key} is {one!r}, and the reference says {known[key]}"


def _said(kind: pa.DataType) -> str:
    if kind == IMAGE:
        return "picture"
    if pa.types.is_list(kind) and pa.types.is_struct(kind.value_type):
        return "list of class"
    return str(kind)
