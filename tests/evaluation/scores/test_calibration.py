from __future__ import annotations

import numpy as np
import pytest

from ddpm_seg.evaluation.scores.calibration import calibration

PIXELS = np.full(10, 100)
WRONG = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 64])


def test_perfect_uncertainty_gives_the_least_area_and_random_more() -> None:
    perfect = calibration(WRONG / 7.0, WRONG, PIXELS)
    assert perfect["rank_correlation"] == pytest.approx(1)
    assert perfect["aurc"] == pytest.approx(perfect["perfect_aurc"])
    assert perfect["risk_coverage"][0] == {"coverage": 0.1, "images": 1, "error": 0}
    assert perfect["risk_coverage"][-1] == {"coverage": 1.0, "images": 10, "error": pytest.approx(0.1)}
    assert perfect["risk_coverage"][-2]["error"] == pytest.approx(36 / 900)
    backwards = calibration(-WRONG, WRONG, PIXELS)
    assert backwards["rank_correlation"] == pytest.approx(-1)
    assert backwards["aurc"] > 0.1 > perfect["aurc"]


def test_rates_are_of_pixels_not_of_images() -> None:
    found = calibration(np.array([0.1, 0.2]), np.array([50, 0]), np.array([100, 900]))
    assert [point["error"] for point in (found["risk_coverage"][0], found["risk_coverage"][-1])] == [0.5, 0.05]


def test_images_without_scored_pixels_and_constants_are_harmless() -> None:
    some = calibration(np.array([0.3, 0.1, 0.1]), np.array([0, 1, 1]), np.array([0, 10, 10]))
    assert some["rank_correlation"] is None
    assert some["aurc"] == pytest.approx(0.1)
    nothing = calibration(np.array([0.3]), np.array([0]), np.array([0]))
    assert nothing["risk_coverage"] == []
