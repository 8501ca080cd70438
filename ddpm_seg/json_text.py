"""JSON that every reader takes: it has no NaN and no infinity, though Python writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any


def to_json(value: object, *, indent: int | None = 1, default: Callable[[Any], object] | None = None) -> bytes:
    """`value` as JSON; a float that is not finite, such as a mean over nothing, is null. `default` as of json.dumps."""
    try:
        return json.dumps(value, indent=indent, default=default, allow_nan=False).encode()
    except ValueError:
        plain = json.loads(json.dumps(value, default=default), parse_constant=lambda _: math.nan)
        return json.dumps(_with_nulls(plain), indent=indent, allow_nan=False).encode()


def _with_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_nulls(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_nulls(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
