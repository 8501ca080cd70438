from __future__ import annotations

import pytest

from ddpm_seg.durations import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.5, "0.500 s"),
        (9.994, "9.99 s"),
        (59.0, "59.0 s"),
        (60.4, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (100 * 3600, "100 h 00 min"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
