"""Nearest training images."""

from __future__ import annotations

import numpy as np
import pytest

from ddpm_seg.evaluation.scores import nearest
from ddpm_seg.evaluation.scores.nearest import nearest_neighbours


@pytest.fixture
def training() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 8, 6, 3), dtype=np.uint8)


def test_equal_to_a_plain_search(training: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "BLOCK", 7)
    queries = np.random.default_rng(1).integers(0, 256, (4, 8, 6, 3), dtype=np.uint8)
    found = nearest_neighbours(queries, training, 3)
    for query, index, distance in zip(queries, found.index, found.distance, strict=True):
        plain = [
            min(float(np.sqrt(np.mean((query - np.float64(way)) ** 2))) for way in (image, image[:, ::-1]))
            for image in training
        ]
        assert index.tolist() == np.argsort(plain)[:3].tolist()
        np.testing.assert_allclose(distance, np.sort(plain)[:3], rtol=1e-5)


def test_a_copy_and_a_mirrored_copy_are_found(training: np.ndarray) -> None:
    found = nearest_neighbours(np.stack([training[11], training[22][:, ::-1]]), training, 2)
    assert found.index[:, 0].tolist() == [11, 22]
    assert found.distance[:, 0] == pytest.approx([0, 0], abs=0.05)
    assert (found.distance[:, 1] > 50).all()


def test_other_sizes_are_refused(training: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"\(4, 4, 3\)"):
        nearest_neighbours(np.zeros((1, 4, 4, 3), np.uint8), training, 1)
