"""Means of top classes over blocks of pixels."""

from __future__ import annotations

import numpy as np
import pytest

from ddpm_seg.data.masks.top_classes import ONE
from tests.data.masks.top_classes import top_classes


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_the_mean_of_a_block_is_the_mean_of_each_class(classes: int) -> None:
    p_KSS = np.random.default_rng(classes).dirichlet(np.ones(classes), (8, 12)).transpose(2, 0, 1)
    found = top_classes(p_KSS).coarser(2)
    expected = p_KSS.reshape(classes, 4, 2, 6, 2).mean(axis=(2, 4))
    assert found.ids.shape == (classes, 4, 6)
    order = found.probabilities.astype(int)
    assert (np.diff(order, axis=0) <= 0).all()
    np.testing.assert_allclose(order / ONE, np.take_along_axis(expected, found.ids.astype(int), axis=0), atol=0.005)


def test_a_class_counts_as_nothing_where_it_is_not_on_top() -> None:
    p_KSS = np.full((5, 2, 2), 0.01)
    p_KSS[4, 0, 0], p_KSS[[1, 2, 3], 0, 0] = 0.96, 0
    p_KSS[1, 0, 1] = p_KSS[1, 1, 0] = p_KSS[1, 1, 1] = 0.96
    found = top_classes(p_KSS).coarser(2)
    assert found.ids[:2].ravel().tolist() == [1, 4]
    np.testing.assert_allclose(found.probabilities[:2].ravel() / ONE, [0.72, 0.24], atol=0.01)
    assert len(set(found.ids.ravel().tolist())) == 3


def test_of_one_pixel_it_is_the_same() -> None:
    top = top_classes(np.full((3, 4, 4), 1 / 3))
    assert top.coarser(1) is top
