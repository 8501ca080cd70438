"""Connected parts counted band by band are those of the whole mask."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from ddpm_seg.data import components
from ddpm_seg.data.components import count_components


@pytest.mark.parametrize("band", [1, 40, 90, 2**22])
@pytest.mark.parametrize("density", [0.1, 0.5, 0.6, 0.9])
def test_they_are_those_of_the_whole_mask(monkeypatch: pytest.MonkeyPatch, band: int, density: float) -> None:
    monkeypatch.setattr(components, "BAND_PIXELS", band)
    mask = np.where(np.random.default_rng(0).random((41, 30)) < density, 7, 3).astype(np.uint8)
    counts = count_components(mask)
    for class_id in (3, 7, 9):
        assert counts[class_id] == ndimage.label(mask == class_id)[1]


@pytest.mark.parametrize("band", [1, 40, 90, 2**22])
@pytest.mark.parametrize("smoothing", [0, 1, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (30, 1), (41, 30)])
def test_each_class_of_several_has_its_own(
    monkeypatch: pytest.MonkeyPatch, band: int, smoothing: int, shape: tuple[int, int]
) -> None:
    monkeypatch.setattr(components, "BAND_PIXELS", band)
    values = ndimage.gaussian_filter(np.random.default_rng(0).random(shape), smoothing)
    mask = np.digitize(values, np.quantile(values, (0.1, 0.5, 0.6))).astype(np.uint8) * 85  # 0, 85, 170, 255
    assert count_components(mask).tolist() == [ndimage.label(mask == class_id)[1] for class_id in range(256)]


def test_a_part_that_winds_through_every_band_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "BAND_PIXELS", 1)
    comb = np.zeros((20, 9), np.uint8)
    comb[:, ::2] = comb[-1] = 1  # five teeth that only the last row joins
    assert count_components(comb)[[0, 1]].tolist() == [4, 1]
    assert count_components(comb[:-1])[[0, 1]].tolist() == [4, 5]
