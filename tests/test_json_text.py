from __future__ import annotations

import json
import math
from datetime import datetime, timezone

import numpy as np
import pytest

from ddpm_seg.json_text import json_digest, json_file, to_json


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


def test_a_file_has_times_in_iso_8601_and_ends_with_a_newline() -> None:
    text = json_file({"at": datetime(2026, 1, 2, 3, tzinfo=timezone.utc), "mean": math.nan}).decode()
    assert text == '{\n  "at": "2026-01-02T03:00:00+00:00",\n  "mean": null\n}\n'


def test_digests_stay_what_they_were() -> None:
    """They name outputs and models: with another one, nothing would go on."""
    content = {"model_id": "a", "eta": 0.5, "timesteps": [1, 2], "none": None}
    expected = "0a30e5c525854f5251bc6d47a5a01846"
    assert json_digest(content)[:32] == json_digest(dict(reversed(content.items())))[:32] == expected
