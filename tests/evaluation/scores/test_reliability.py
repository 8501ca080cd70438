"""Counts of confidence against being right, compared with the plain formulas pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from ddpm_seg.evaluation.scores.reliability import (
    Reliability,
    class_reliability,
    count,
    expected_calibration_error,
    risk_coverage,
)

NAMES = ("a", "b", "c", "nowhere")


def pixels(seed: int, number: int = 5000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    confidence = draw.integers(0, 256, number).astype(np.uint8)
    target, predicted = draw.integers(0, 3, (2, number)).astype(np.uint8)
    return confidence, np.where(draw.random(number) < 0.5, target, predicted), target


def of(seed: int) -> Reliability:
    return count(*pixels(seed), len(NAMES))


def test_counts_add() -> None:
    first, second = pixels(1), pixels(2)
    both = count(*(np.concatenate(pair) for pair in zip(first, second, strict=True)), len(NAMES))
    added = of(1) + of(2)
    np.testing.assert_array_equal(added.pixels, both.pixels)
    np.testing.assert_array_equal(added.right, both.right)


def test_the_calibration_error_is_that_of_the_paper() -> None:
    confidence, predicted, target = pixels(3)
    c, right = confidence / 255, predicted == target
    bins = np.minimum((c * 15).astype(int), 14)
    expected = sum(abs(c[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in range(15))
    assert expected_calibration_error(of(3)) == pytest.approx(expected)


def test_a_class_has_the_mean_confidence_and_precision_of_its_pixels() -> None:
    confidence, predicted, target = pixels(4)
    rows = class_reliability(of(4), NAMES)
    for row in rows[:3]:
        own = predicted == row["class_id"]
        assert row["pixels"] == own.sum()
        assert row["confidence"] == pytest.approx(confidence[own].mean() / 255)
        assert row["precision"] == pytest.approx((target[own] == row["class_id"]).mean())
    assert (rows[3]["confidence"], rows[3]["precision"]) == (None, None)


def test_the_curve_ends_at_the_error_of_all_and_knows_order() -> None:
    confidence = np.repeat(np.array([255, 100, 10], np.uint8), 100)
    predicted = np.zeros(300, np.uint8)
    target = np.repeat(np.array([0, 0, 1], np.uint8), 100)  # the least confident third is wrong
    curve = risk_coverage(count(confidence, predicted, target, 2))
    assert [point["error"] for point in curve[:6]] == [0] * 6
    assert curve[-1] == {"coverage": 1.0, "error": pytest.approx(1 / 3)}


def test_unlabelled_pixels_do_not_count() -> None:
    confidence, predicted, target = pixels(5)
    target[::2] = 255
    found, half = count(confidence, predicted, target, 4), count(confidence[1::2], predicted[1::2], target[1::2], 4)
    np.testing.assert_array_equal(found.pixels, half.pixels)
    nothing = count(confidence, predicted, np.full_like(target, 255), 4)
    assert (expected_calibration_error(nothing), risk_coverage(nothing)) == (None, [])


def test_other_arrays_are_refused() -> None:
    confidence, predicted, target = pixels(6)
    with pytest.raises(ValueError, match="uint8 confidence"):
        count(confidence / 255, predicted, target, 3)
    with pytest.raises(ValueError, match="of one shape"):
        count(confidence, predicted, target[1:], 3)
