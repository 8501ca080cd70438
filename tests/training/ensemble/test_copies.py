from __future__ import annotations

import numpy as np
import pytest

from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.data.canvas import Placement
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.copies import Copies, mirrored


def annotation(seed: int) -> Annotation:
    rng = np.random.default_rng(seed)
    image = rng.integers(30, 220, (8, 8, 3), dtype=np.uint8)
    placement = Placement(left=1, top=0, width=4, height=8, image_width=4, image_height=8)
    return Annotation(uri=str(seed), image=image, label=rng.integers(0, 3, (8, 8), dtype=np.uint8), placement=placement)


def test_a_mirror_image_is_annotated_alike() -> None:
    one = annotation(0)
    other = mirrored(one)
    np.testing.assert_array_equal(other.image, one.image[:, ::-1])
    np.testing.assert_array_equal(other.label, one.label[:, ::-1])
    np.testing.assert_array_equal(other.placement.crop(other.label), one.placement.crop(one.label)[:, ::-1])


def test_a_mirror_image_swaps_the_classes_that_are_paired() -> None:
    names = ("sky", "left", "right")
    task = Task(name="t", class_names=names, palette=((0, 0, 0),) * 3, mirror_pairs=(("left", "right"),))
    own = annotation(0)
    own.label[0, 0] = 255
    _, other = Copies(mirror=True).added_to([own], seed=0, task=task)
    for before, after in ((0, 0), (1, 2), (2, 1), (255, 255)):
        np.testing.assert_array_equal(other.label == after, own.label[:, ::-1] == before)


def test_recoloured_copies_keep_their_masks_and_differ_a_little_each_in_its_own_way() -> None:
    own = [annotation(0), annotation(1)]
    shown = Copies(mirror=True, recolour=2).added_to(own, seed=3)
    assert len(shown) == 2 * 2 * 3
    assert shown[:2] == own
    for index, copy in enumerate(shown[4:]):
        original = shown[index % 4]
        np.testing.assert_array_equal(copy.label, original.label)
        difference = np.abs(copy.image.astype(int) - original.image).mean()
        assert 1 < difference < 40
    assert not np.array_equal(shown[4].image, shown[8].image)
    again = Copies(mirror=True, recolour=2).added_to(own, seed=3)
    assert all(np.array_equal(a.image, b.image) for a, b in zip(shown, again, strict=True))


def test_no_copies_are_the_images_themselves() -> None:
    own = [annotation(0)]
    assert Copies().added_to(own, seed=0) == own
    with pytest.raises(ValueError, match="recolour is -1"):
        Copies(recolour=-1)
