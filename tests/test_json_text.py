from __future__ import annotations

import json
import math

import numpy as np
import pytest

from ddpm_seg.json_text import to_json


@pytest.mark.parametrize("indent", [None, 1, 2])
def test_what_json_does_not_have_is_null(indent: int | None) -> None:
    value = {"a": [1, math.nan, (math.inf, 0.5)], "b": {"c": -math.inf, "d": "NaN"}, "e": np.float64("nan")}
    text = to_json(value, indent=indent)
    found = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert found == {"a": [1, None, [None, 0.5]], "b": {"c": None, "d": "NaN"}, "e": None}


def test_all_else_is_as_python_writes_it() -> None:
    value = {"a": [1, 2.5, None, True, "ä"], "b": {}}
    for indent in (None, 1, 2):
        assert to_json(value, indent=indent) == json.dumps(value, indent=indent).encode()
    with pytest.raises(TypeError):
        to_json({"a": object()})
