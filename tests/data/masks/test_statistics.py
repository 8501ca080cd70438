"""Statistics of masks of the image's own size, against pixel-by-pixel ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ddpm_seg.data.canvas import fit, restore_mask
from ddpm_seg.data.masks.enlarge import OwnSizeMask
from ddpm_seg.data.masks.statistics import own_size_statistics
from ddpm_seg.data.statistics import image_statistics, most_uncertain_tenth

SIZE, NAMES = 16, ("a", "b", "c", "d")


@pytest.mark.parametrize(("height", "width"), [(40, 30), (7, 90), (300, 333)])
def test_they_are_those_of_the_masks_own_pixels(height: int, width: int) -> None:
    draw = np.random.default_rng(height)
    mask, confidence = draw.integers(0, 3, (2, height, width)).astype(np.uint8)
    mask[draw.random(mask.shape) < 0.2] = 255  # left out
    confidence = draw.integers(0, 256, mask.shape).astype(np.uint8)
    uncertainty = draw.random((SIZE, SIZE)).astype(np.float32)
    _, placement = fit(np.zeros((height, width, 3), np.uint8), SIZE)
    found = own_size_statistics(OwnSizeMask(mask=mask, confidence=confidence), uncertainty, placement, NAMES)
    at_size = restore_mask(uncertainty, placement)
    assert [one.class_id for one in found.classes] == np.unique(mask[mask < 255]).tolist()
    for one in found.classes:
        own = mask == one.class_id
        rows, columns = np.nonzero(own)
        assert (one.class_name, one.pixels, one.fraction) == (NAMES[one.class_id], own.sum(), own.mean())
        assert one.mean_confidence == pytest.approx(confidence[own].mean() / 255)
        assert one.mean_uncertainty == pytest.approx(at_size[own].mean())
        assert one.components == ndimage.label(own)[1]
        assert one.bbox == (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
    assert found.mean_confidence == pytest.approx(confidence.mean() / 255)
    assert found.uncertainty == most_uncertain_tenth(placement.crop(uncertainty).ravel())


def test_at_the_networks_size_they_are_the_usual_ones() -> None:
    draw = np.random.default_rng(0)
    label = draw.integers(0, 4, (SIZE, SIZE)).astype(np.uint8)
    confidence = draw.integers(0, 256, (SIZE, SIZE)).astype(np.uint8)
    uncertainty = draw.random((SIZE, SIZE)).astype(np.float32)
    _, placement = fit(np.zeros((SIZE, SIZE, 3), np.uint8), SIZE)
    found = own_size_statistics(OwnSizeMask(mask=label, confidence=confidence), uncertainty, placement, NAMES)
    usual = image_statistics(label, uncertainty, confidence / 255, label, placement, NAMES)
    for one, other in zip(found.classes, usual.classes, strict=True):
        assert (one.pixels, one.bbox, one.components) == (other.pixels, other.bbox, other.components)
        assert one.mean_confidence == pytest.approx(other.mean_confidence)
        assert one.mean_uncertainty == pytest.approx(other.mean_uncertainty)


def test_a_class_without_a_name_is_refused() -> None:
    mask = np.full((40, 40), 9, np.uint8)
    _, placement = fit(np.zeros((40, 40, 3), np.uint8), SIZE)
    with pytest.raises(ValueError, match="class 9 has no name"):
        own_size_statistics(OwnSizeMask(mask=mask, confidence=mask), np.zeros((SIZE, SIZE)), placement, NAMES)
