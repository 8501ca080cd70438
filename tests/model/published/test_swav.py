"""Checkpoints of SwAV: what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ddpm_seg.model.published.swav import load_swav
from tests.model.recorded_extractors import state

pytestmark = pytest.mark.usefixtures("small_checkpoints")

SWAV = state("swav64", without_values=True)


def test_what_is_no_swav_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {key: value for key, value in SWAV.items() if key != "layer4.2.conv3.weight"}}, path)
    with pytest.raises(ValueError, match=r"not the ResNet-50 of SwAV: it lacks layer4\.2\.conv3\.weight"):
        load_swav(str(path), "swav")
    torch.save({"state_dict": {"fc.weight": torch.zeros(3, 3)}}, path)
    with pytest.raises(ValueError, match=r"not a SwAV checkpoint: it has no conv1\.weight, but fc\.weight"):
        load_swav(str(path), "swav")
