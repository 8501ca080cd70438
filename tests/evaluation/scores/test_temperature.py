"""Temperatures undo what made probabilities too sure, and never change a label."""

from __future__ import annotations

import numpy as np
import pytest

from ddpm_seg.evaluation.scores.temperature import MIN_PIXELS, fit_temperatures, of_pixels, tempered

CLASSES = 4


def drawn(temperatures: list[float], pixels: int = 60000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities that are too sure by the temperature of their largest class, and targets of the true ones."""
    draw = np.random.default_rng(seed)
    logits = draw.standard_normal((pixels, CLASSES)) * 1.5
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    target = (p.cumsum(axis=1) < draw.random((pixels, 1))).sum(axis=1)
    return tempered(p, 1 / np.array(temperatures)[p.argmax(axis=1)]), target


def test_each_class_gets_the_temperature_that_it_lacked() -> None:
    wanted = [1.0, 1.5, 0.7, 2.5]
    np.testing.assert_allclose(fit_temperatures(*drawn(wanted)), wanted, rtol=0.1)


def test_confidence_becomes_precision_on_other_pixels() -> None:
    p, target = drawn([1.0, 2.0, 3.0, 0.5], seed=1)
    half = len(p) // 2
    calibrated = of_pixels(p[half:], fit_temperatures(p[:half], target[:half]))
    predicted, right = calibrated.argmax(axis=1), calibrated.argmax(axis=1) == target[half:]
    for class_id in range(CLASSES):
        own = predicted == class_id
        assert calibrated.max(axis=1)[own].mean() == pytest.approx(right[own].mean(), abs=0.02)


def test_labels_stay_and_probabilities_stay_probabilities() -> None:
    p, _ = drawn([1.0] * CLASSES)
    for temperatures in ([0.2, 5.0, 1.0, 3.0], [10.0] * CLASSES):
        calibrated = of_pixels(p, temperatures)
        np.testing.assert_array_equal(calibrated.argmax(axis=1), p.argmax(axis=1))
        np.testing.assert_allclose(calibrated.sum(axis=1), 1)
    np.testing.assert_allclose(tempered(p, 1.0), p, atol=1e-9)


def test_a_class_with_few_pixels_takes_the_temperature_of_all() -> None:
    p, target = drawn([2.0] * CLASSES)
    kept = (p.argmax(axis=1) != 3) | (np.cumsum(p.argmax(axis=1) == 3) < MIN_PIXELS)
    found = fit_temperatures(p[kept], target[kept])
    alone = fit_temperatures(p[kept], np.where(p[kept].argmax(axis=1) == 3, 0, target[kept]))
    assert found[3] == pytest.approx(2, rel=0.1)
    assert alone[:3] == found[:3]
    assert alone[3] != found[3]


@pytest.mark.parametrize("right", [True, False])
def test_classes_that_are_always_right_or_always_wrong_stay_within_bounds(right: bool) -> None:
    p, _ = drawn([1.0] * CLASSES, pixels=4000)
    target = p.argmax(axis=1) + (0 if right else 1)
    assert all(0.1 <= one <= 10 for one in fit_temperatures(p, target))


def test_nothing_to_fit_on_is_refused() -> None:
    with pytest.raises(ValueError, match="expected"):
        fit_temperatures(np.zeros((0, 3)), np.zeros(0))
