"""Flags of jobs.convert: each has a loader, and a file under the wrong one is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ddpm_seg.model.published.convert import convert
from ddpm_seg.model.published.convert_config import ConvertConfig
from tests.model import recorded_vdvae_alae
from tests.model.published.published_files import FLAGS, unet_state
from tests.model.recorded_extractors import state

pytestmark = pytest.mark.usefixtures("small_checkpoints")

MAE = state("mae64")
SWAV, SWAV_W2 = (state(name, without_values=True) for name in ("swav64", "swav_w2_64"))


@pytest.mark.parametrize("flag", ["ddpm", "mae", "swav", "swav_w2", "vdvae", "alae"])
@pytest.mark.parametrize(
    ("content", "title", "right"),
    [
        (unet_state(), "guided-diffusion", "ddpm"),
        ({"model": MAE}, "MAE", "mae"),
        ({"models": {"encoder": MAE, "decoder": {"weight": torch.zeros(1)}}}, "MAE", "mae"),
        ({"state_dict": {f"module.{key}": value for key, value in SWAV.items()}}, "SwAV", "swav"),
        ({"state_dict": {f"module.{key}": value for key, value in SWAV_W2.items()}}, "SwAVw2", "swav_w2"),
        (recorded_vdvae_alae.state("vdvae32"), "VDVAE", "vdvae"),
        ({"models": {"discriminator_s": recorded_vdvae_alae.state("alae128")}}, "StyleALAE", "alae"),
    ],
    ids=["ddpm", "mae", "mae-among-others", "swav", "swav_w2", "vdvae", "alae"],
)
def test_a_checkpoint_of_another_kind_is_named(tmp_path: Path, flag: str, content: Any, title: str, right: str) -> None:
    torch.save(content, tmp_path / "weights.pth")
    if flag == right:
        return
    flags = {"model_flags": FLAGS} if flag == "ddpm" else {}
    shown = right.replace("_", "-")
    with pytest.raises(ValueError, match=rf"weights\.pth is a {title} checkpoint; use --{shown}$"):
        convert(ConvertConfig(**{flag: str(tmp_path / "weights.pth")}, output="unused", **flags))


def test_a_damaged_checkpoint_of_the_right_kind_says_what_is_wrong(tmp_path: Path) -> None:
    torch.save({"model": {**MAE, "relative_bias": torch.zeros(3)}}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="it has relative_bias, which the network lacks"):
        convert(ConvertConfig(mae=str(tmp_path / "weights.pth"), output="unused"))
