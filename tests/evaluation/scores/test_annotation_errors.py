"""Planted annotation errors are found, with the region and the class that it should have been."""

from __future__ import annotations

import numpy as np
import pytest

from ddpm_seg.evaluation.scores.annotation_errors import label_quality, suspects, weakest_class


def truth() -> np.ndarray:
    label = np.zeros((24, 24), np.uint8)
    label[3:10, 3:10], label[14:20, 12:20] = 1, 2
    return label


def probabilities(label: np.ndarray, seed: int = 0) -> np.ndarray:
    """What a good model says: the true class nearly everywhere, with some doubt."""
    draw = np.random.default_rng(seed)
    p = draw.dirichlet([0.3, 0.3, 0.3], label.shape).transpose(2, 0, 1) * 0.3
    np.put_along_axis(p, label[None].astype(int), np.take_along_axis(p, label[None].astype(int), 0) + 0.7, axis=0)
    return p


def swapped() -> np.ndarray:
    return np.array([0, 2, 1], np.uint8)[truth()]


def left_out() -> np.ndarray:
    return np.where(truth() == 2, np.uint8(0), truth())


@pytest.mark.parametrize("wrong", [swapped(), left_out()], ids=["swapped", "left out"])
def test_a_wrong_annotation_scores_below_every_right_one(wrong: np.ndarray) -> None:
    right = [label_quality(probabilities(truth(), seed), truth()) for seed in range(20)]
    assert label_quality(probabilities(truth(), 99), wrong) < min(right) - 0.2


def test_the_score_is_cleanlabs_formula() -> None:
    p, label = probabilities(truth()), left_out()
    given = np.take_along_axis(p, label[None].astype(int), axis=0).ravel()
    weights = np.exp((1 - given) / 0.1) / np.exp((1 - given) / 0.1).sum()
    assert label_quality(p, label) == pytest.approx(weights @ given)


def test_the_region_and_its_class_are_named_worst_first() -> None:
    found = suspects(probabilities(truth()), swapped())
    assert [(one.annotated, one.suggested, one.pixels) for one in found] == [(2, 1, 49), (1, 2, 48)]
    assert (found[0].rows, found[0].columns) == (slice(3, 10), slice(3, 10))
    assert found[0].doubt > found[1].doubt > 0
    assert suspects(probabilities(truth()), truth()) == []


def test_pixels_without_a_class_that_counts_are_no_errors() -> None:
    p, label = probabilities(truth()), swapped()
    unlabelled = np.where(truth() > 0, np.uint8(255), truth())
    assert suspects(p, unlabelled) == []
    assert label_quality(p, unlabelled) > 0.6
    assert label_quality(p, np.full_like(label, 255)) == 1
    ignored = np.where(truth() == 2, np.uint8(0), truth())
    assert suspects(p, ignored, ignore_label=0) == []
    with pytest.raises(ValueError, match="shape"):
        label_quality(p, label[1:])


@pytest.mark.parametrize("wrong", [swapped(), left_out()], ids=["swapped", "left out"])
def test_the_weakest_class_is_the_wrong_part_whatever_the_edges_say(wrong: np.ndarray) -> None:
    p = probabilities(truth())
    doubtful = p.copy()
    doubtful[:, ::5, ::3] = 1 / 3  # doubt here and there, as along edges
    assert weakest_class(doubtful, wrong) < 0.3 < 0.7 < weakest_class(doubtful, truth())
    assert weakest_class(p, np.full_like(truth(), 255)) == 1
    assert weakest_class(p, wrong, ignore_label=0) >= weakest_class(p, wrong)


def test_a_small_part_counts_but_stray_pixels_do_not() -> None:
    label = np.zeros((64, 64), np.uint8)
    label[20:23, 30:34] = 1  # an eyebrow: 12 of 4096 pixels
    p = probabilities(label)
    assert weakest_class(p, np.zeros_like(label)) < 0.3
    stray = label.copy()
    stray[40, 40:45] = 2  # fewer than 0.2 %
    assert weakest_class(probabilities(stray), label) > 0.7
