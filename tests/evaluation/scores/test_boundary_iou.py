"""Boundary IoU against the paper's words taken one class and one pixel at a time."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ddpm_seg.evaluation.scores.boundary_iou import boundary_counts, boundary_ious, paper_distance

CLASSES = 4


def blobs(seed: int, height: int = 40, width: int = 55) -> np.ndarray:
    noise = np.random.default_rng(seed).standard_normal((CLASSES, height, width))
    return np.stack([ndimage.gaussian_filter(one, 4) for one in noise]).argmax(axis=0).astype(np.uint8)


def slow_counts(predicted: np.ndarray, target: np.ndarray, distance: int) -> np.ndarray:
    """G_d & G, class by class: a mask without its erosion, as the paper's `mask_to_boundary` has it."""

    def edge(mask: np.ndarray) -> np.ndarray:
        return mask & ~ndimage.binary_erosion(mask, np.ones((3, 3)), iterations=distance, border_value=0)

    pairs = [(edge(target == one), edge(predicted == one)) for one in range(CLASSES)]
    return np.array([[(g & p).sum() for g, p in pairs], [(g | p).sum() for g, p in pairs]])


@pytest.mark.parametrize("distance", [1, 2, 5])
def test_it_is_the_papers(distance: int) -> None:
    predicted, target = blobs(1), blobs(2)
    found = boundary_counts(predicted, target, CLASSES, distance)
    np.testing.assert_array_equal(found, slow_counts(predicted, target, distance))


def test_the_same_mask_scores_one_and_a_large_distance_makes_it_the_usual_iou() -> None:
    predicted, target = blobs(1), blobs(2)
    assert (boundary_ious(boundary_counts(target, target, CLASSES, 2), None) == 1).all()
    found = boundary_ious(boundary_counts(predicted, target, CLASSES, 100), None)
    usual = [
        ((predicted == one) & (target == one)).sum() / ((predicted == one) | (target == one)).sum() for one in range(4)
    ]
    np.testing.assert_allclose(found, usual)


def test_a_shift_costs_more_at_the_boundary_than_inside() -> None:
    target = np.zeros((60, 60), np.uint8)
    target[15:45, 15:45] = 1
    shifted = np.roll(target, 2, axis=1)
    near, far = (boundary_ious(boundary_counts(shifted, target, 2, d), None)[1] for d in (2, 30))
    assert near < 0.75 < far


def test_unlabelled_pixels_do_not_count_whatever_is_said_of_them() -> None:
    target, predicted = blobs(2), blobs(1)
    target[10:30, 10:30] = 255
    other = np.where(target == 255, np.uint8(3), predicted)
    found = boundary_counts(predicted, target, CLASSES, 2)
    np.testing.assert_array_equal(boundary_counts(other, target, CLASSES, 2), found)
    assert not boundary_counts(predicted, np.full_like(target, 255), CLASSES, 2).any()


def test_a_class_that_is_nowhere_and_the_ignored_one_have_no_score() -> None:
    counts = boundary_counts(blobs(1), blobs(2), CLASSES + 1, 2)
    assert np.isnan(boundary_ious(counts, 0)).tolist() == [True, False, False, False, True]


def test_the_papers_distance_and_wrong_use() -> None:
    assert (paper_distance(256, 256), paper_distance(3, 3)) == (7, 1)
    with pytest.raises(ValueError, match="shape"):
        boundary_counts(blobs(1), blobs(2)[1:], CLASSES, 2)
    with pytest.raises(ValueError, match="at least 1 pixel"):
        boundary_counts(blobs(1), blobs(2), CLASSES, 0)
