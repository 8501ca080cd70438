"""The labels of one image: a mask of the image's own size with its statistics, or an error."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ddpm_seg.data.canvas import fit, restore_mask
from ddpm_seg.data.image_labels import NotFiniteError, image_labels
from ddpm_seg.data.masks.enlarge import enlarge
from ddpm_seg.data.masks.top_classes import TopClasses
from ddpm_seg.data.statistics import image_statistics
from ddpm_seg.model.pixel_labels import PixelLabels
from tests.data.masks.top_classes import top_classes

SIZE, NAMES = 16, ("background", "box", "other")


def answer(draw: np.random.Generator) -> PixelLabels:
    label = draw.integers(0, len(NAMES), (SIZE, SIZE)).astype(np.uint8)
    uncertainty, confidence = draw.random((2, SIZE, SIZE)).astype(np.float32)
    return PixelLabels(label=label, uncertainty=uncertainty, confidence=confidence)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (40, 30), (7, 90), (1, 1)])
def test_an_answer_has_the_images_own_size(height: int, width: int) -> None:
    draw = np.random.default_rng(height)
    _, placement = fit(np.zeros((height, width, 3), np.uint8), SIZE)
    found = answer(draw)
    labels = image_labels(found, placement, NAMES)
    assert np.array_equal(labels.mask, restore_mask(found.label, placement))
    assert labels.mask.shape == (height, width)
    assert sum(one.pixels for one in labels.statistics.classes) == height * width
    assert labels.statistics == image_statistics(
        found.label, found.uncertainty, found.confidence, labels.mask, placement, NAMES
    )


def with_top(draw: np.random.Generator) -> PixelLabels:
    p = draw.dirichlet([1, 1, 1], (SIZE, SIZE)).transpose(2, 0, 1)
    top, found = top_classes(p), answer(draw)
    return dataclasses.replace(found, label=top.ids[0], top_ids=top.ids, top_probabilities=top.probabilities)


@pytest.mark.parametrize(("height", "width"), [(40, 30), (7, 90), (5, 5)])
def test_a_bilinear_mask_is_the_enlarged_one(height: int, width: int) -> None:
    found = with_top(np.random.default_rng(height))
    _, placement = fit(np.zeros((height, width, 3), np.uint8), SIZE)
    labels = image_labels(found, placement, NAMES, "bilinear")
    assert found.top_ids is not None
    assert found.top_probabilities is not None
    expected = enlarge(TopClasses(ids=found.top_ids, probabilities=found.top_probabilities), placement)
    named = np.unique(placement.crop(found.label))
    assert (labels.mask == expected.mask)[np.isin(expected.mask, named)].all()
    assert np.isin(labels.mask, named).all()
    assert [one.class_id for one in labels.statistics.classes] == np.unique(labels.mask).tolist()


def test_an_image_of_the_networks_size_keeps_its_labels_either_way() -> None:
    found = dataclasses.replace(with_top(np.random.default_rng(2)), label=np.zeros((SIZE, SIZE), np.uint8))
    _, placement = fit(np.zeros((SIZE, SIZE, 3), np.uint8), SIZE)
    assert (
        image_labels(found, placement, NAMES, "bilinear").statistics == image_labels(found, placement, NAMES).statistics
    )
    assert not image_labels(found, placement, NAMES, "bilinear").mask.any()


def test_a_bilinear_mask_needs_probabilities() -> None:
    _, placement = fit(np.zeros((40, 40, 3), np.uint8), SIZE)
    with pytest.raises(ValueError, match="top classes"):
        image_labels(answer(np.random.default_rng(0)), placement, NAMES, "bilinear")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_overflowed_are_no_answer(value: float) -> None:
    found = answer(np.random.default_rng(0))
    found.uncertainty[3, 5] = value
    _, placement = fit(np.zeros((SIZE, SIZE, 3), np.uint8), SIZE)
    with pytest.raises(NotFiniteError, match="not finite"):
        image_labels(found, placement, NAMES)
