"""SwAV's ResNets: equal to the published extractors, and alike in whatever order their blocks are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.networks.swav import SwAVConfig
from ddpm_seg.model.published.names import ModelType
from ddpm_seg.model.published.swav import load_swav
from tests.model.recorded_extractors import assert_as_recorded, shapes, write_checkpoint
from tests.model.tiny_networks import TINY_SWAV, assert_extractor_keeps_its_word


@pytest.mark.parametrize(("name", "model_type"), [("swav64", "swav"), ("swav_w2_64", "swav_w2")])
def test_equals_the_published_extractor(tmp_path: Path, name: str, model_type: ModelType) -> None:
    network, weights = load_swav(write_checkpoint(tmp_path / "swav.pth", name), model_type, 64)
    backbone = [key for key in shapes(name) if not key.startswith(("projection_head.", "prototypes."))]
    assert set(weights) == set(backbone) == set(weight_shapes(network))
    assert_as_recorded(name, network, weights)


@pytest.mark.parametrize(("width", "title", "dim"), [(64, "SwAV", 6720), (128, "SwAVw2", 13440)])
def test_the_published_features(width: int, title: str, dim: int) -> None:
    network = SwAVConfig(image_size=256, width=width)
    features = network.published_features()
    assert (network.title, features.steps, sum(features.channels(network))) == (title, (), dim)
    assert features.blocks == (0, 2, 3, 5, 7, 9, 11, 13, 15)
    assert [network.image_size // side for side in features.sides(network)] == [4, 4, 4, 8, 8, 16, 16, 16, 32]


def test_blocks_batches_and_order() -> None:
    assert_extractor_keeps_its_word(TINY_SWAV)


def test_nothing_is_computed_after_the_last_input() -> None:
    network = TINY_SWAV.build().eval()
    network.layer2[0], network.layer3, network.layer4 = torch.nn.Module(), torch.nn.Sequential(), torch.nn.Sequential()
    assert [one.shape for one in network.activations(torch.zeros(1, 3, 32, 32), (3,))] == [(1, 32, 8, 8)]


def test_impossible_architectures_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 32, got 48"):
        SwAVConfig(image_size=48, width=64)
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        SwAVConfig(image_size=64, width=0)
