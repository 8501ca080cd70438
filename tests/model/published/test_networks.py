"""Checkpoints of MAE and SwAV: what is read of them, and how others are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ddpm_seg.model.published.flags import configs_from_flags, split_model_flags
from ddpm_seg.model.published.networks import load_mae, load_swav, load_unet
from tests.model.published.published_files import FLAGS, unet_state
from tests.model.recorded_extractors import state, write_checkpoint

pytestmark = pytest.mark.usefixtures("small_checkpoints")

MAE = state("mae64")
SWAV, SWAV_W2 = (state(name, without_values=True) for name in ("swav64", "swav_w2_64"))

LOADERS: dict[str, Callable[[str], Any]] = {
    "--ddpm": lambda uri: load_unet(uri, configs_from_flags(split_model_flags(FLAGS))[0]),
    "--mae": load_mae,
    "--swav": lambda uri: load_swav(uri, "swav"),
    "--swav-w2": lambda uri: load_swav(uri, "swav_w2"),
}


def written(folder: Path, content: Any) -> str:
    torch.save(content, folder / "weights.pth")
    return str(folder / "weights.pth")


@pytest.mark.parametrize("flag", list(LOADERS))
@pytest.mark.parametrize(
    ("content", "title", "right"),
    [
        (unet_state(), "guided-diffusion", "--ddpm"),
        ({"model": MAE}, "MAE", "--mae"),
        ({"state_dict": {f"module.{key}": value for key, value in SWAV.items()}}, "SwAV", "--swav"),
        ({"state_dict": {f"module.{key}": value for key, value in SWAV_W2.items()}}, "SwAVw2", "--swav-w2"),
    ],
    ids=["ddpm", "mae", "swav", "swav_w2"],
)
def test_a_checkpoint_of_another_kind_is_named(tmp_path: Path, flag: str, content: Any, title: str, right: str) -> None:
    path = written(tmp_path, content)
    if flag == right:
        LOADERS[flag](path)
        return
    with pytest.raises(ValueError, match=rf"weights\.pth is a {title} checkpoint; use {right}$"):
        LOADERS[flag](path)


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


def test_what_is_no_swav_is_said_so(tmp_path: Path) -> None:
    path = written(tmp_path, {"state_dict": without("layer4.2.conv3.weight", SWAV)})
    with pytest.raises(ValueError, match=r"not the ResNet-50 of SwAV: it lacks layer4\.2\.conv3\.weight"):
        load_swav(path, "swav")
    path = written(tmp_path, {"state_dict": {"fc.weight": torch.zeros(3, 3)}})
    with pytest.raises(ValueError, match=r"not a SwAV checkpoint: it has no conv1\.weight, but fc\.weight"):
        load_swav(path, "swav")
