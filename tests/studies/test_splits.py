from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.data.canvas import Placement
from ddpm_seg.studies.splits import draw_splits, find_splits

PLACEMENT = Placement(left=0, top=0, width=2, height=2, image_width=2, image_height=2)


def loader(images: int) -> Callable[[str], list[Annotation]]:
    def load(uri: str) -> list[Annotation]:
        pixels = np.zeros((2, 2, 3), np.uint8)
        return [
            Annotation(uri=f"{uri}/{index}", image=pixels, label=pixels[..., 0], placement=PLACEMENT)
            for index in range(images)
        ]

    return load


def test_each_set_is_a_split_named_as_its_folder() -> None:
    splits = find_splits(["s3://b/one/", "s3://b/two"], "s3://b/test", count=None, shots=None, load=loader(3))
    assert [split.name for split in splits] == ["one", "two"]
    assert all(split.train[0].uri.startswith(f"s3://b/{split.name}") for split in splits)
    assert {split.test[0].uri for split in splits} == {"s3://b/test/0"}


def test_random_splits_share_nothing_with_what_they_are_scored_on_and_repeat() -> None:
    def draw() -> list[tuple[list[str], list[str]]]:
        splits = find_splits(["pool"], None, count=4, shots=3, load=loader(10))
        return [([one.uri for one in split.train], [one.uri for one in split.test]) for split in splits]

    drawn = draw()
    assert drawn == draw()
    for train, test in drawn:
        assert (len(train), len(test)) == (3, 7)
        assert not set(train) & set(test)
    assert len({tuple(train) for train, _ in drawn}) == 4


def test_a_test_set_may_be_given_and_then_the_whole_pool_be_trained_on() -> None:
    (split,) = find_splits(["pool"], "test", count=1, shots=10, load=loader(10))
    assert (len(split.train), split.test[0].uri) == (10, "test/0")


@pytest.mark.parametrize("shots", [0, 10, 11])
def test_impossible_splits_are_refused(shots: int) -> None:
    with pytest.raises(ValueError, match="expected at least one split of 1 to 9 of the 10 annotated images"):
        find_splits(["pool"], None, count=2, shots=shots, load=loader(10))


def test_smaller_splits_are_the_beginnings_of_larger_ones_and_scored_on_the_same_images() -> None:
    pool = loader(10)("pool")
    few, many = (draw_splits(pool, count=3, shots=shots, kept_back=6) for shots in (2, 6))
    for small, large in zip(few, many, strict=True):
        assert (len(small.train), len(large.train)) == (2, 6)
        assert {one.uri for one in small.train} < {one.uri for one in large.train}
        assert [one.uri for one in small.test] == [one.uri for one in large.test]
    assert [one.test for one in many] == [one.test for one in draw_splits(pool, count=3, shots=6)]
