"""What a class should gain from more annotations: exact for curves that are powers, and never more than is missing."""

from __future__ import annotations

import numpy as np
import pytest

from ddpm_seg.evaluation.scores.expected_gains import (
    ExpectedGain,
    expected_gain,
    gain_of_doubling,
    most_first,
    sentence,
)

SHOTS = (5, 10, 20)


@pytest.mark.parametrize("exponent", [0.05, 0.3, 1.0])
def test_a_power_law_is_continued_exactly(exponent: float) -> None:
    errors = 0.9 * np.array([*SHOTS, 40.0]) ** -exponent
    (gain,) = gain_of_doubling(SHOTS, 1 - errors[None, :3])
    assert gain == pytest.approx(errors[2] - errors[3])


def test_a_level_or_falling_curve_gains_nothing_and_no_curve_gains_more_than_is_missing() -> None:
    curves = np.array([[0.5, 0.5, 0.5], [0.6, 0.5, 0.4], [0.0, 0.5, 1.0], [0.1, 0.1, 0.9]])
    gains = gain_of_doubling(SHOTS, curves)
    assert gains[:2] == pytest.approx([0, 0], abs=1e-12)
    assert (gains[2:] >= 0).all()
    assert (curves[:, -1] + gains <= 1 + 1e-9).all()


def test_one_number_of_images_is_no_curve() -> None:
    with pytest.raises(ValueError, match="at least two"):
        gain_of_doubling((5,), np.array([[0.5]]))


def gain(name: str, value: float, deviation: float | None = 0.01) -> ExpectedGain:
    return ExpectedGain(class_name=name, iou=0.4, gain=value, deviation=deviation, pixels=10, images=2)


def test_the_sentence_names_the_class_and_those_that_may_need_it_as_much() -> None:
    text = sentence([gain("hair", 0.01), gain("beard", 0.1), gain("nose", 0.095)], 20)
    assert "images that show beard next: with 40 images in place of 20" in text
    assert "from 0.40 by 0.10 ± 0.01" in text
    assert "Nose may need them as much" in text
    assert "air" not in text
    assert "hardly help" in sentence([gain("hair", 0.001)], 20)
    alone = sentence([gain("hair", 0.1, None)], 20)
    assert "±" not in alone
    assert "a single split says little" in alone


def test_mean_and_deviation_are_those_of_the_splits() -> None:
    ious = np.array([[0.2, 0.3, 0.4], [0.3, 0.45, 0.55]])
    found = expected_gain("nose", SHOTS, ious, pixels=7, images=3)
    each = gain_of_doubling(SHOTS, ious)
    assert (found.iou, found.gain) == (pytest.approx(0.475), pytest.approx(each.mean()))
    assert found.deviation == pytest.approx(each.std(ddof=1))
    assert expected_gain("nose", SHOTS, ious[:1], pixels=7, images=3).deviation is None
    assert most_first([found, gain("x", 0.5)])[0].class_name == "x"
