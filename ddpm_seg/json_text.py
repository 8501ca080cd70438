"""Standard JSON: no NaN and no infinity, which Python would write but other readers refuse.

Three forms: an indented file for people (`json_file`), compact text (`to_json`), and a digest of settings
(`json_digest`), whose bytes must never change.
"""

from __future__ import annotations

import hashlib
import json
import math
from datetime import datetime
from typing import Any


def json_file(value: object) -> bytes:
    """`value` as an indented JSON file that ends with a newline."""
    return to_json(value, indent=2) + b"\n"


def to_json(value: object, *, indent: int | None = None) -> bytes:
    """`value` as JSON. Times become ISO 8601; floats that are not finite, such as a mean over nothing, become null.

    Raises TypeError for anything else that JSON cannot express.
    """
    try:
        return json.dumps(value, indent=indent, default=_time, allow_nan=False).encode()
    except ValueError:
        plain = json.loads(json.dumps(value, default=_time), parse_constant=lambda _: math.nan)
        return json.dumps(_with_nulls(plain), indent=indent, allow_nan=False).encode()


def json_digest(value: object) -> str:
    """SHA-256 of `value` as 64 hex digits, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _time(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"cannot store {type(value).__name__} as JSON")


def _with_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_nulls(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_nulls(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
