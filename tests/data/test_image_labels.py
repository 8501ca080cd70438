"""One image's answer: the mask of its own size and statistics of that mask, or no answer at all."""

from __future__ import annotations

import numpy as np
import pytest

from ddpm_seg.data.canvas import fit, restore_mask
from ddpm_seg.data.image_labels import NotFiniteError, image_labels
from ddpm_seg.data.statistics import image_statistics
from ddpm_seg.model.pixel_labels import PixelLabels

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


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_overflowed_are_no_answer(value: float) -> None:
    found = answer(np.random.default_rng(0))
    found.uncertainty[3, 5] = value
    _, placement = fit(np.zeros((SIZE, SIZE, 3), np.uint8), SIZE)
    with pytest.raises(NotFiniteError, match="not finite"):
        image_labels(found, placement, NAMES)
