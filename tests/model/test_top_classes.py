"""Three ids and probabilities a pixel: what the model hands to whoever writes the mask."""

from __future__ import annotations

import pytest
import torch

from ddpm_seg.model.top_classes import top_classes


@pytest.mark.parametrize("classes", [2, 3, 10, 34])
def test_they_are_the_largest_in_order(classes: int) -> None:
    p_KRW = torch.rand((classes, 5, 7), generator=torch.Generator().manual_seed(classes)).softmax(dim=0)
    found = top_classes(p_KRW)
    ids, p = found["top_ids"].long(), found["top_probabilities"]
    assert ids.shape == p.shape == (min(3, classes), 5, 7)
    torch.testing.assert_close(p_KRW.gather(0, ids), p_KRW.sort(dim=0, descending=True).values[:3])
    torch.testing.assert_close(p / 255, p_KRW.gather(0, ids), atol=0.5 / 255 + 1e-6, rtol=0)
