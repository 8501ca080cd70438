from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from ddpm_seg.evaluation.tables.active import farthest_first, uncertainty_by_class


@pytest.mark.parametrize("seed", range(5))
def test_each_choice_is_the_farthest_from_those_before_and_from_certainty(seed: int) -> None:
    vectors = np.random.default_rng(seed).exponential(size=(40, 6)).astype(np.float32)
    chosen = farthest_first(vectors, 12)
    assert len(set(chosen)) == 12
    for rank, index in enumerate(chosen):
        known = [np.zeros(6), *vectors[chosen[:rank]]]
        nearest = [min(np.linalg.norm(vector - other) for other in known) for vector in vectors]
        left = [i for i in range(40) if i not in chosen[:rank]]
        assert nearest[index] == pytest.approx(max(nearest[i] for i in left), rel=1e-5)


def test_a_second_picture_of_the_same_doubt_comes_after_another_doubt() -> None:
    vectors = np.array([[0, 0], [9, 0], [9, 0.1], [0, 4], [0.1, 0.1]], np.float32)
    assert farthest_first(vectors, 2) == [1, 3] or farthest_first(vectors, 2) == [2, 3]


def test_there_may_be_fewer_images_than_asked_for_and_no_doubt_at_all() -> None:
    assert sorted(farthest_first(np.zeros((3, 4), np.float32), 10)) == [0, 1, 2]
    assert farthest_first(np.zeros((0, 4), np.float32), 10) == []


def test_classes_share_out_an_images_uncertainty() -> None:
    def statistics(*rows: tuple[int, float, float]) -> list[dict[str, float]]:
        names = ("class_id", "fraction", "mean_uncertainty")
        return [dict(zip(names, row, strict=True)) for row in rows]

    fields = [("class_id", pa.int32()), ("fraction", pa.float64()), ("mean_uncertainty", pa.float32())]
    images = [statistics((0, 0.25, 0.4), (2, 0.75, 0.8)), statistics(), statistics((1, 1.0, 0.5))]
    column = pa.chunked_array([images[:1], images[1:]], pa.list_(pa.struct(fields)))
    expected = np.array([[0.1, 0, 0.6, 0], [0, 0, 0, 0], [0, 0.5, 0, 0]], np.float32)
    np.testing.assert_allclose(uncertainty_by_class(column, 4), expected, rtol=1e-6)
    np.testing.assert_allclose(uncertainty_by_class(column.slice(1), 4), expected[1:], rtol=1e-6)
