"""ALAE's encoder: equal to the published code, and to its equations in other sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_seg.model.device.dtypes import FloatDType
from ddpm_seg.model.networks import alae
from ddpm_seg.model.networks.alae import ALAEConfig
from ddpm_seg.model.published.alae import load_alae
from tests.model import golden_weights, tiny_networks
from tests.model.recorded_vdvae_alae import (
    ALAE_SEED,
    ALAE_SMALL_SEED,
    assert_equal_arrays,
    at_pixels,
    maps_of,
    recorded,
    save,
    save_alae,
    state,
    weight,
)

NATIVE = ALAEConfig(image_size=128, widths=(8, 16, 32, 32, 32, 32, 32))


@pytest.fixture(scope="module", params=[False, True], ids=["zip", "legacy"])
def weights(request: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    path = tmp_path_factory.mktemp("alae") / "alae.pth"
    network, weights = load_alae(save_alae(path, state("alae128"), legacy=request.param))
    assert network == NATIVE
    return weights


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("prefix", "size", "seed"), [("", 128, ALAE_SEED), ("enlarged_", 32, ALAE_SMALL_SEED)])
def test_equals_the_published_code(weights: dict[str, Tensor], prefix: str, size: int, seed: int, count: int) -> None:
    arrays, network = recorded("alae128"), replace(NATIVE, image_size=size)
    assert network.first_block == arrays[prefix + "first_encoder_block"]
    images = np.stack([golden_weights.image(seed + index, size) for index in range(count)])
    x = F.interpolate(network.preprocess(images, "cpu"), size=(128, 128), mode="bilinear")
    assert np.abs(x[0, :, :4, :4].numpy() - arrays[prefix + "input_corner"]).max() <= 1e-6
    features = network.published_features()
    maps = maps_of(network, weights, images, features.blocks)
    assert [tuple(one.shape[1:]) for one in maps] == [tuple(shape) for shape in arrays[prefix + "block_shapes"]]
    assert features.channels(network) == [one.shape[1] for one in maps]
    assert features.sides(network) == [one.shape[3] for one in maps]
    assert_equal_arrays(at_pixels(maps, size, arrays[prefix + "pixel_index"]), arrays[prefix + "features"])
    for index, one in enumerate(maps if not prefix else []):
        assert_equal_arrays(one[0, : len(arrays[f"map_{index}"])], arrays[f"map_{index}"])


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("prefix", "size", "seed"), [("", 128, ALAE_SEED), ("enlarged_", 32, ALAE_SMALL_SEED)])
def test_styles_and_code_equal_the_published_ones(
    weights: dict[str, Tensor], prefix: str, size: int, seed: int, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are no features. With the layers that the file has for them, what enters each instance norm gives them."""
    entering: list[Tensor] = []
    norm = alae._instance_norm
    monkeypatch.setattr(alae, "_instance_norm", lambda h: norm(entering.append(h) or h))
    images = np.stack([golden_weights.image(seed + index, size) for index in range(count)])
    network = replace(NATIVE, image_size=size)
    maps_of(network, weights, images, [len(network.block_channels) - 1])
    arrays, published = recorded("alae128"), state("alae128")
    styles = np.empty_like(arrays[prefix + "styles"])
    for index, h in enumerate(entering):
        variance, mean = torch.var_mean(h[0], dim=(1, 2), correction=0)
        layer = f"encode_block.{index // 2}.style_{index % 2 + 1}"
        code = published[f"{layer}.weight"] @ torch.cat([mean, variance.sqrt()]) + published[f"{layer}.bias"]
        styles[index // 2, index % 2] = code.numpy()
    assert_equal_arrays(styles, arrays[prefix + "styles"])
    assert_equal_arrays(styles.sum(axis=(0, 1)), arrays[prefix + "w"])


@pytest.mark.parametrize("size", [2, 8, 16, 32])
def test_other_sizes_equal_the_equations(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    network = ALAEConfig(image_size=32, widths=(3, 7, 5, 11, 4))
    published = published_state(network)
    path = save(tmp_path_factory.mktemp("alae") / "alae.pth", published)
    loaded, weights = load_alae(path)
    assert loaded == network
    network, images = replace(network, image_size=size), tiny_networks.images(2, size)
    found = maps_of(network, weights, images, network.published_features().blocks)
    expected = plain_alae(published, torch.tensor(images).permute(0, 3, 1, 2) / 127.5 - 1, side=32)
    readable = [one for one in expected if one.shape[-1] <= size]
    for actual, wanted, side in zip(found, readable, network.block_sides, strict=True):
        assert actual.shape[-1] == side
        assert_equal_arrays(actual, wanted.numpy())


def published_state(network: ALAEConfig) -> dict[str, Tensor]:
    """Random weights of the encoder in the published layout, without the layers that are not read."""
    shapes: dict[str, tuple[int, ...]] = {
        "from_rgb.0.from_rgb.weight": (network.widths[0], 3, 1, 1),
        "from_rgb.0.from_rgb.bias": (network.widths[0],),
    }
    for index, (entering, leaving) in enumerate(zip(network.widths, network.widths[1:], strict=False)):
        block = f"encode_block.{index}"
        shapes |= {f"{block}.conv_1.weight": (entering, entering, 3, 3), f"{block}.bias_1": (1, entering, 1, 1)}
        shapes |= {f"{block}.conv_2.weight": (leaving, entering, 3, 3), f"{block}.bias_2": (1, leaving, 1, 1)}
    return {key: weight("other", key, shape) for key, shape in shapes.items()}


def plain_alae(state: dict[str, Tensor], x: Tensor, side: int) -> list[Tensor]:
    """The equations word for word; outputs of all encoder blocks."""
    blur = torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([1.0, 2, 1])) / 16
    x = F.interpolate(x, size=(side, side), mode="bilinear", align_corners=False)
    h = F.conv2d(x, state["from_rgb.0.from_rgb.weight"], state["from_rgb.0.from_rgb.bias"])
    h = F.leaky_relu(F.leaky_relu(h, 0.2), 0.2)
    outputs = []
    while h.shape[-1] > 2:
        block = f"encode_block.{len(outputs)}"
        h = F.conv2d(h, state[f"{block}.conv_1.weight"], padding=1) + state[f"{block}.bias_1"]
        h = F.instance_norm(F.leaky_relu(h, 0.2), eps=1e-5)
        h = F.conv2d(h, blur.expand(h.shape[1], 1, 3, 3), padding=1, groups=h.shape[1])
        h = F.avg_pool2d(F.conv2d(h, state[f"{block}.conv_2.weight"], padding=1), 2) + state[f"{block}.bias_2"]
        h = F.instance_norm(F.leaky_relu(h, 0.2), eps=1e-5)
        outputs.append(h)
    return outputs


def test_blocks_batches_and_order() -> None:
    tiny_networks.assert_extractor_keeps_its_word(tiny_networks.TINY_ALAE)


def test_other_blocks_and_their_order_change_nothing(weights: dict[str, Tensor]) -> None:
    images = tiny_networks.images(3, 32)
    for network in (replace(NATIVE, image_size=32), replace(NATIVE, image_size=16)):
        pictures = images[:, : network.image_size, : network.image_size]
        count = len(network.block_channels)
        every = maps_of(network, weights, pictures, range(count))
        some = maps_of(network, weights, pictures, (count - 1, 1, 1))
        for actual, expected in zip(some, (every[1], every[-1]), strict=True):
            tiny_networks.assert_close(actual, expected, 1e-5)


def test_nothing_is_computed_after_the_last_block() -> None:
    network = replace(NATIVE, image_size=32)  # whose block 0 is the encoder's block 1
    module = network.build()
    module.encode_block[3] = nn.Module()
    maps = module.activations(torch.zeros(1, 3, 32, 32), (0, 1))
    assert [one.shape for one in maps] == [(1, 32, 32, 32), (1, 32, 16, 16)]


@pytest.mark.parametrize(("dtype", "tolerance"), [("bfloat16", 0.1), ("float16", 0.01)])
def test_half_precision_is_off_by_little(weights: dict[str, Tensor], dtype: FloatDType, tolerance: float) -> None:
    images = tiny_networks.images(1, 128)
    exact = maps_of(NATIVE, weights, images, range(6))
    for actual, expected in zip(maps_of(NATIVE, weights, images, range(6), dtype), exact, strict=True):
        assert actual.dtype == getattr(torch, dtype)
        tiny_networks.assert_close(actual.float(), expected, tolerance)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"image_size": 256}, "image_size must be at most 128, got 256"),
        ({"image_size": 1}, "image_size must be at least 2"),
        ({"image_size": 48}, "image_size must be a power of 2, got 48"),
        ({"widths": (8,)}, "number of blocks"),
        ({"widths": (8,) * 12}, "number of blocks .* must be at most 10, got 11"),
        ({"widths": (8, 0, 8, 8, 8, 8, 8)}, "width must be at least 1, got 0"),
        ({"widths": (8, 10**9, 8, 8, 8, 8, 8)}, "width must be at most"),
    ],
)
def test_impossible_architectures_are_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        replace(NATIVE, **change)
