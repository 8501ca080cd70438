from __future__ import annotations

import numpy as np
import pytest

from ddpm_seg.data.canvas import fit, restore_mask
from ddpm_seg.evaluation.scores.score_labels import at_network_size


@pytest.mark.parametrize("shape", [(16, 16), (17, 17), (20, 31), (64, 48), (16, 200), (41, 16)])
def test_an_enlarged_mask_gives_back_the_label_it_was_made_of(shape: tuple[int, int]) -> None:
    _, placement = fit(np.zeros((*shape, 3), np.uint8), 16)
    label = np.random.default_rng(0).integers(0, 9, (16, 16)).astype(np.uint8)
    mask = restore_mask(label, placement)
    assert mask.shape == shape
    np.testing.assert_array_equal(at_network_size(mask, placement), placement.crop(label))
