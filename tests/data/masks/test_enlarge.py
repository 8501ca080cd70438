"""Bilinear masks: against the plain computation with every class, and what must hold of any."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from ddpm_seg.data.canvas import Placement, fit
from ddpm_seg.data.masks.enlarge import enlarge
from ddpm_seg.data.masks.top_classes import ONE, TopClasses
from tests.data.masks.top_classes import top_classes

SIZE = 16


def blobs(classes: int, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """Smooth probabilities (K, S, S)."""
    noise = np.random.default_rng(seed).standard_normal((classes, size, size))
    logits = np.stack([ndimage.gaussian_filter(one, size / 10) for one in noise])
    p = np.exp(6 * logits / logits.std())
    return p / p.sum(axis=0)


def whole(size: int, height: int, width: int) -> Placement:
    return Placement(left=0, top=0, width=size, height=size, image_width=width, image_height=height)


def plain(p_KSS: np.ndarray, placement: Placement) -> np.ndarray:
    """Every class's probability at every pixel of the image (K, H, W): scipy's linear interpolation at the centres."""
    rows = (np.arange(placement.image_height) + 0.5) * placement.height / placement.image_height - 0.5
    columns = (np.arange(placement.image_width) + 0.5) * placement.width / placement.image_width - 0.5
    where = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    crop = p_KSS[:, placement.top :, placement.left :][:, : placement.height, : placement.width]
    return np.stack([ndimage.map_coordinates(one, where, order=1, mode="nearest") for one in crop])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (64, 64), (40, 53), (120, 31), (9, 200), (5, 7), (1, 1)])
def test_with_three_classes_it_is_the_whole_vector_enlarged(height: int, width: int) -> None:
    p = blobs(3, height)
    _, placement = fit(np.zeros((height, width, 3), np.uint8), SIZE)
    top = top_classes(p)
    rounded = np.zeros_like(p)
    np.put_along_axis(rounded, top.ids.astype(int), top.probabilities / ONE, axis=0)
    expected, found = plain(rounded, placement), enlarge(top, placement)
    assert found.mask.shape == (height, width)
    chosen = np.take_along_axis(expected, found.mask[None].astype(int), axis=0)[0]
    np.testing.assert_allclose(chosen, expected.max(axis=0), atol=1e-5)  # but for ties, the largest
    np.testing.assert_allclose(found.confidence / ONE, chosen, atol=0.51 / ONE)


@pytest.mark.parametrize("classes", [2, 5, 34])
def test_three_classes_of_many_say_what_all_would(classes: int) -> None:
    p, placement = blobs(classes, classes), whole(SIZE, 100, 140)
    expected = plain(p, placement).argmax(axis=0)
    assert (enlarge(top_classes(p), placement).mask == expected).mean() > 0.98


def test_flat_probabilities_stay_flat_and_padding_has_no_say() -> None:
    _, placement = fit(np.zeros((30, 90, 3), np.uint8), SIZE)
    p = np.zeros((4, SIZE, SIZE))
    p[0] = 1  # the padding
    placement.crop(p.transpose(1, 2, 0))[:] = [0, 0.2, 0.7, 0.1]
    found = enlarge(top_classes(p), placement)
    assert (found.mask == 2).all()
    assert (found.confidence == round(0.7 * ONE)).all()


def test_a_mirrored_image_has_a_mirrored_mask() -> None:
    p, placement = blobs(5, 3), whole(SIZE, 67, 67)
    found, mirrored = enlarge(top_classes(p), placement), enlarge(top_classes(p[:, :, ::-1]), placement)
    assert (found.mask == mirrored.mask[:, ::-1]).mean() > 0.999  # rounding may break a tie
    np.testing.assert_allclose(found.confidence, mirrored.confidence[:, ::-1].astype(int), atol=1)


def test_the_strips_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    top, placement = top_classes(blobs(6, 4)), whole(SIZE, 203, 97)
    found = enlarge(top, placement)
    for pixels in (1, 97 * 7, 97 * 50):
        monkeypatch.setattr("ddpm_seg.data.masks.enlarge.STRIP_PIXELS", pixels)
        other = enlarge(top, placement)
        np.testing.assert_array_equal(other.mask, found.mask)
        np.testing.assert_array_equal(other.confidence, found.confidence)


def test_the_image_at_the_networks_size_keeps_its_pixels() -> None:
    top = top_classes(blobs(7, 5))
    found = enlarge(top, whole(SIZE, SIZE, SIZE))
    np.testing.assert_array_equal(found.mask, top.ids[0])
    np.testing.assert_array_equal(found.confidence, top.probabilities[0])


def test_a_large_image_of_many_classes_needs_little_memory() -> None:
    top, placement = top_classes(blobs(34, 6, 64)), whole(64, 3000, 4000)
    tracemalloc.start()
    try:
        enlarge(top, placement)
        assert tracemalloc.get_traced_memory()[1] < 60e6  # 24 MB of them the result
    finally:
        tracemalloc.stop()


def test_arrays_that_do_not_belong_together_are_refused() -> None:
    ids = np.zeros((3, 4, 4), np.uint8)
    with pytest.raises(ValueError, match="must be one"):
        TopClasses(ids=ids, probabilities=ids[:2])
    with pytest.raises(ValueError, match="uint8"):
        TopClasses(ids=ids, probabilities=ids / 2)
