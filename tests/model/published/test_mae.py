"""Checkpoints of MAE: what is read of them, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ddpm_seg.model.published.mae import load_mae
from tests.model.recorded_extractors import state, write_checkpoint

pytestmark = pytest.mark.usefixtures("small_checkpoints")

MAE = state("mae64")


def written(folder: Path, content: Any) -> str:
    torch.save(content, folder / "weights.pth")
    return str(folder / "weights.pth")


def test_a_state_dict_alone_is_the_same(tmp_path: Path) -> None:
    whole = load_mae(write_checkpoint(tmp_path / "mae.pth", "mae64"))
    encoder = {key: value for key, value in MAE.items() if not key.startswith(("decoder", "mask_token"))}
    alone = load_mae(written(tmp_path, encoder))
    assert alone[0] == whole[0]
    assert all(torch.equal(alone[1][key], value) for key, value in whole[1].items())


def without(key: str, content: dict[str, Tensor] = MAE) -> dict[str, Tensor]:
    return {name: value for name, value in content.items() if name != key}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": without("pos_embed")}, "it has no pos_embed, but blocks.0.attn.proj.bias"),
        ({"model": without("blocks.3.mlp.fc1.bias")}, r"not the encoder of a MAE: it lacks blocks\.3\.mlp\.fc1\.bias"),
        ({"model": {**MAE, "relative_bias": torch.zeros(3)}}, "it has relative_bias, which the network lacks"),
        ({"model": {**MAE, "pos_embed": torch.zeros(1, 60, 128)}}, "60 positions; expected a square of patches"),
        ({"model": {**MAE, "pos_embed": torch.zeros(3)}}, r"pos_embed \(3,\); expected a MAE's"),
        ({"model": {**MAE, "blocks.0.norm1.bias": torch.full((128,), torch.nan)}}, "norm1.bias has values that"),
        ({"model": {}}, "expected a plain state dict"),
        ({"weights": MAE}, "expected a plain state dict.*a dictionary with weights"),
        (torch.zeros(3), "expected a plain state dict.*a Tensor"),
    ],
)
def test_what_is_no_mae_is_said_so(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_mae(written(tmp_path, content))
