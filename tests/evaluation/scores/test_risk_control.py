"""The promise of `--target-error`: over random calibration sets, the mean risk stays under the target."""

from __future__ import annotations

import numpy as np
import pytest

from ddpm_seg.evaluation.scores.risk_control import (
    Kept,
    TooFewImagesError,
    control_risk,
    images_needed,
    kept_shares,
)


def image(draw: np.random.Generator) -> Kept:
    """One image whose pixels are right about as often as they say, some images being harder than others."""
    confidence = draw.beta(6, 1, 400)
    wrong = draw.random(400) > confidence ** draw.uniform(0.2, 2)
    return kept_shares((confidence * 255).astype(np.uint8), wrong.astype(np.uint8), np.zeros(400, np.uint8), 2)


@pytest.mark.parametrize(("number", "target"), [(20, 0.1), (100, 0.02), (100, 0.05)])
def test_the_mean_risk_over_calibration_sets_is_at_most_the_target(number: int, target: float) -> None:
    draw = np.random.default_rng(number)
    pool = [image(draw) for _ in range(2000)]
    wrong = np.array([one.wrong for one in pool])
    risks = []
    for _ in range(300):
        chosen = draw.choice(len(pool), number + 1, replace=False)
        threshold = control_risk([pool[one] for one in chosen[:-1]], target)
        risks.append(wrong[np.setdiff1d(np.arange(len(pool)), chosen), threshold.confidence].mean())
    assert np.mean(risks) <= target
    assert np.mean(risks) > target / 3  # it keeps what it may


def test_as_few_images_as_can_promise_it_and_one_less() -> None:
    assert [images_needed(target) for target in (0.01, 0.05, 0.1, 0.5)] == [99, 19, 9, 1]
    draw = np.random.default_rng(0)
    pool = [image(draw) for _ in range(99)]
    found = control_risk(pool, 0.01)  # only what is never wrong may be kept
    assert np.mean([one.wrong[found.confidence] for one in pool]) == 0
    with pytest.raises(TooFewImagesError, match="at least 99 calibration images, but there are 98"):
        control_risk(pool[1:], 0.01)


def test_a_model_that_is_never_wrong_keeps_everything() -> None:
    draw = np.random.default_rng(0)
    confidence, label = draw.integers(0, 256, (8, 8)).astype(np.uint8), draw.integers(0, 3, (8, 8))
    found = control_risk([kept_shares(confidence, label, label, 3)] * 99, 0.01)
    assert (found.confidence, found.kept) == (0, 1.0)
    assert "99 calibration images" in str(found)


def test_shares_fall_with_the_threshold_and_leave_out_what_nobody_annotated() -> None:
    draw = np.random.default_rng(1)
    confidence, predicted = draw.integers(0, 256, (2, 40, 30)).astype(np.uint8)
    target = draw.integers(0, 256, (40, 30))
    target[:20] = 255
    found = kept_shares(confidence, predicted, target, 255)
    inside = target != 255
    for level in (0, 1, 100, 255, 256):
        kept = confidence[inside] >= level
        assert found.kept[level] == pytest.approx(kept.mean())
        assert found.wrong[level] == pytest.approx((kept & (predicted != target)[inside]).mean())
    assert (np.diff(found.wrong) <= 0).all()
    assert found.wrong[256] == found.kept[256] == 0
    with pytest.raises(ValueError, match="annotated"):
        kept_shares(confidence, predicted, np.full_like(target, 255), 255)


@pytest.mark.parametrize("target", [0, 1, -0.1, 2])
def test_a_target_is_a_share(target: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        control_risk([image(np.random.default_rng(0))], target)
