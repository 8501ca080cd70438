"""The MAE encoder: equal to the published extractor, and alike in whatever order its blocks are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.mae import MAEConfig
from ddpm_seg.model.published.mae import load_mae
from tests.model.recorded_extractors import assert_as_recorded, shapes, write_checkpoint
from tests.model.tiny_networks import TINY_MAE, assert_extractor_keeps_its_word

pytestmark = pytest.mark.usefixtures("small_checkpoints")

VIT_L_8 = MAEConfig(image_size=256, patch_size=8, width=1024, depth=24, num_heads=16)


def test_equals_the_published_extractor(tmp_path: Path) -> None:
    network, weights = load_mae(write_checkpoint(tmp_path / "mae.pth", "mae64"))
    assert network == MAEConfig(image_size=64, patch_size=8, width=128, depth=14, num_heads=2)
    assert_as_recorded("mae64", network, weights)


def test_the_published_network_is_read_off_its_checkpoint(tmp_path: Path) -> None:
    network, weights = load_mae(write_checkpoint(tmp_path / "mae.pth", "mae256", without_values=True))
    assert network == VIT_L_8
    assert {key: tuple(value.shape) for key, value in weights.items()} == weight_shapes(VIT_L_8)
    encoder = [key for key in shapes("mae256") if not key.startswith(("decoder_", "mask_token", "norm."))]
    assert len(weights) == len(encoder)


def test_the_published_features() -> None:
    features = VIT_L_8.published_features()
    assert (features.steps, features.blocks) == ((), tuple(range(12, 24)))
    assert features.channels(VIT_L_8) == [1024] * 12  # 12288, as the experiments' dim says
    assert features.sides(VIT_L_8) == [32] * 12


def test_blocks_batches_and_order() -> None:
    assert_extractor_keeps_its_word(TINY_MAE)


def test_nothing_is_computed_after_the_last_block() -> None:
    network = TINY_MAE.build()
    network.blocks[2] = torch.nn.Module()
    maps = network.activations(torch.zeros(1, 3, 32, 32), (1,))
    assert [one.shape for one in maps] == [(1, 32, 4, 4)]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"patch_size": 7}, "multiple of patch_size 7"),
        ({"num_heads": 5}, "multiple of num_heads 5"),
        ({"depth": 0}, "depth"),
    ],
)
def test_impossible_architectures_are_refused(change: dict[str, Any], named: str) -> None:
    values = {"image_size": 32, "patch_size": 8, "width": 32, "depth": 3, "num_heads": 2}
    with pytest.raises(ValueError, match=named):
        MAEConfig(**{**values, **change})


def test_steps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"this is a MAE: leave them out, got \(50,\)"):
        FeatureConfig(steps=(50,), blocks=(0,)).check(TINY_MAE)
    with pytest.raises(ValueError, match=r"0\.\.2, got \(3,\)"):
        FeatureConfig(steps=(), blocks=(3,)).check(TINY_MAE)
