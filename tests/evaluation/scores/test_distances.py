from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import linalg

from ddpm_seg.evaluation.scores import distances
from ddpm_seg.evaluation.scores.distances import frechet_distance, kernel_distance


def gaussian(count: int, features: int, *, seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return shift + scale * np.random.default_rng(seed).standard_normal((count, features))


def test_the_frechet_distance_of_known_gaussians() -> None:
    """Of independent features: squared differences of means and of deviations, added up."""
    found = frechet_distance(gaussian(40_000, 4, seed=0), gaussian(40_000, 4, seed=1, shift=0.5, scale=1.5))
    assert found == pytest.approx(4 * 0.5**2 + 4 * 0.5**2, rel=0.03)


def test_the_frechet_distance_is_the_formula_with_a_matrix_square_root() -> None:
    mix = np.random.default_rng(5).standard_normal((6, 6))
    a, b = gaussian(300, 6, seed=0) @ mix, gaussian(200, 6, seed=1, shift=0.3)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(cov_a @ cov_b).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a[:4], b[:4]) > 0  # fewer images than features: singular, and real all the same


def test_the_kernel_distance_is_the_unbiased_sum_over_pairs() -> None:
    a, b = gaussian(7, 3, seed=0), gaussian(7, 3, seed=1, shift=1)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 3 + 1) ** 3)

    pairs = list(itertools.permutations(range(7), 2))
    within = np.mean([kernel(a[i], a[j]) + kernel(b[i], b[j]) for i, j in pairs])
    between = np.mean([kernel(x, y) for x in a for y in b])
    found = kernel_distance(a, b)
    assert found.mean == pytest.approx(within - 2 * between)
    assert found.deviation == pytest.approx(0, abs=1e-9)  # all subsets are the whole


def test_the_kernel_distance_does_not_depend_on_how_many_images_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distances, "SUBSET_SIZE", 200)
    same = kernel_distance(gaussian(600, 5, seed=0), gaussian(1500, 5, seed=1))
    assert abs(same.mean) < 3 * same.deviation / 2
    near, far = (kernel_distance(gaussian(600, 5, seed=0), gaussian(900, 5, seed=2, shift=by)) for by in (0.3, 0.6))
    assert 0.05 < near.mean < far.mean


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [((5, 3), (5, 4), r"\(5, 3\) and \(5, 4\)"), ((1, 3), (5, 3), "at least 2 images, got 1 and 5")],
)
def test_sets_that_cannot_be_compared_are_refused(a: tuple[int, int], b: tuple[int, int], message: str) -> None:
    for distance in (frechet_distance, kernel_distance):
        with pytest.raises(ValueError, match=message):
            distance(np.zeros(a), np.zeros(b))
