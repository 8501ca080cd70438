"""Drawing objects gives pycocotools' masks; objects that would crash pycocotools are refused before."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as codec

from ddpm_seg.data.annotations.errors import MaskError
from ddpm_seg.data.annotations.forms.drawing import coco_runs, paint, polygon_runs
from ddpm_seg.data.annotations.pair import UNCOVERED


def drawn(runs: np.ndarray, height: int, width: int) -> np.ndarray:
    return paint([(runs, 1)], [], height, width) == 1


@pytest.mark.parametrize("seed", range(20))
def test_run_lengths_and_polygons_are_those_of_pycocotools(seed: int) -> None:
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 40, 2).tolist()
    pixels = generator.random((height, width)) < generator.random()
    compressed = codec.encode(np.asfortranarray(pixels.astype(np.uint8)))
    text = {"size": [height, width], "counts": compressed["counts"].decode()}
    np.testing.assert_array_equal(drawn(coco_runs(text, height, width), height, width), pixels)
    size = np.array([width, height])
    polygons = [generator.uniform(-size, 2 * size, (points, 2)).reshape(-1).tolist() for points in (3, 7)]
    expected = codec.decode(codec.merge(codec.frPyObjects(polygons, height, width))).astype(bool)
    np.testing.assert_array_equal(drawn(polygon_runs(polygons, height, width), height, width), expected)


def test_later_objects_are_in_front_and_boxes_have_no_class() -> None:
    whole, corner = np.array([0, 12]), np.array([0, 1, 11])
    assert paint([], [], 2, 2).tolist() == [[UNCOVERED] * 2] * 2
    label = paint([(whole, 5), (corner, 7)], [(0, 0, 9, 9)], 3, 4)
    assert label[0, 0] == 7
    assert (label.reshape(-1)[1:] == 5).all()
    assert paint([], [(1.2, 0.9, 1, 1)], 3, 4).tolist() == [[-1, 255, 255, -1], [-1, 255, 255, -1], [-1] * 4]


@pytest.mark.parametrize(
    ("polygon", "message"),
    [
        ([0, 0, 1e9, 0, 0, 1e9], "far outside of an image of 8 x 6"),
        ([0, 0, -9, 0, 3, 3], "far outside"),
        ([0, 0, float("nan"), 0, 0, 3], "not a list of finite numbers"),
        ([0, 0, float("inf"), 0, 0, 3], "not a list of finite numbers"),
        ([0, 0, True, 0, 0, 3], "not a list of finite numbers"),
        ([0, 0, "3", 0, 0, 3], "not a list of finite numbers"),
        ([0, 0, 3, 0, 0, 3, 4], "7 numbers; expected x and y"),
        ("0 0 3 3", "not a list of finite numbers"),
    ],
)
def test_a_polygon_that_cannot_be_is_refused(polygon: Any, message: str) -> None:
    with pytest.raises(MaskError, match=message):
        polygon_runs([polygon], 6, 8)


def test_an_endless_outline_is_refused() -> None:
    with pytest.raises(MaskError, match=r"outline of .* pixels; the limit is"):
        polygon_runs([[0, 0, 9999, 9999] * 1000], 10_000, 10_000)


def test_two_points_are_no_box() -> None:
    assert not drawn(polygon_runs([[1, 1, 4, 4], []], 6, 8), 6, 8).any()


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({"size": [6, 8], "counts": [0, 10**9]}, "1000000000 pixels in an image of 8 x 6"),
        ({"size": [6, 8], "counts": [10]}, "10 pixels in an image"),
        ({"size": [6, 8], "counts": [-1, 49]}, "neither a text nor a list of counts"),
        ({"size": [6, 8], "counts": [1.5, 46.5]}, "neither a text nor a list of counts"),
        ({"size": [6, 8]}, "neither a text nor a list of counts: None"),
        ({"size": [100_000, 100_000], "counts": [10**10]}, r"of size \[100000, 100000\] .*expected \[6, 8\]"),
        ({"counts": [48]}, "of size None"),
        ({"size": [6, 8], "counts": "PPPP\x00"}, "invalid character"),
        ({"size": [6, 8], "counts": "o" * 40}, "too long|invalid character|end within"),
        ({"size": [6, 8], "counts": "oo"}, "end within a number"),
        ({"size": [6, 8], "counts": "T9"}, "pixels in an image"),
    ],
)
def test_run_lengths_that_cannot_be_are_refused(runs: dict[str, Any], message: str) -> None:
    with pytest.raises(MaskError, match=message):
        coco_runs(runs, 6, 8)
