"""VDVAE: equal to the published code, and to its equations in other sizes; nothing is computed that is not read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.networks.vdvae import VDVAEConfig
from ddpm_seg.model.published.vdvae import load_vdvae
from tests.model import golden_weights, tiny_networks
from tests.model.recorded_vdvae_alae import (
    DEC_BLOCKS,
    ENC_BLOCKS,
    VDVAE32_FLAGS,
    VDVAE_SEED,
    assert_equal_arrays,
    at_pixels,
    maps_of,
    recorded,
    save,
    state,
    weight,
)

SMALL = VDVAEConfig(
    image_size=32,
    width=48,
    inner_width=12,
    zdim=16,
    enc_blocks=ENC_BLOCKS,
    dec_blocks=DEC_BLOCKS,
    no_bias_above=8,
    shift=-112.8666757481,
    deviation=69.84780273,
)
# What the recorded network has not: blocks alone, a pooling by 3, kernels at resolution 2, a state that starts from
# zeros without a mixin, a decoder that ends below the image, and widths that are no multiples of one another.
OTHER = replace(
    SMALL,
    image_size=24,
    width=10,
    inner_width=7,
    zdim=3,
    enc_blocks="24d3,8x2,8,8d2,4d2,2d2,1x2",
    dec_blocks="1,2m1,2,4,4m2,8m4,8x2",
    no_bias_above=2,
)


@pytest.fixture(scope="module", params=[False, True], ids=["zip", "legacy"])
def weights(request: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    path = tmp_path_factory.mktemp("vdvae") / "ema.th"
    return load_vdvae(save(path, state("vdvae32"), legacy=request.param), VDVAE32_FLAGS)[1]


@pytest.mark.parametrize("count", [1, 3])
def test_equals_the_published_code(weights: dict[str, Tensor], count: int) -> None:
    arrays = recorded("vdvae32")
    images = np.stack([golden_weights.image(VDVAE_SEED + index, 32) for index in range(count)])
    assert_equal_arrays(SMALL.preprocess(images, "cpu")[0, :, :4, :4].permute(1, 2, 0), arrays["input_corner"])
    assert list(SMALL.published_features().blocks) == arrays["blocks"].tolist()
    maps = maps_of(SMALL, weights, images, arrays["blocks"])
    assert_equal_arrays(at_pixels(maps, 32, arrays["pixel_index"]), arrays["features"])
    for block, one in zip(arrays["blocks"], maps, strict=True):
        assert_equal_arrays(one[0, : len(arrays[f"map_{block}"])], arrays[f"map_{block}"])


@pytest.mark.parametrize("count", [1, 3])
def test_every_block_equals_the_published_codes(weights: dict[str, Tensor], count: int) -> None:
    arrays = recorded("vdvae32")
    images = np.stack([golden_weights.image(VDVAE_SEED + index, 32) for index in range(count)])
    every = maps_of(SMALL, weights, images, range(len(SMALL.block_channels)))
    assert [tuple(one.shape[1:]) for one in every] == [tuple(shape) for shape in arrays["block_shapes"]]
    assert SMALL.block_channels == arrays["block_shapes"][:, 0].tolist()
    assert SMALL.block_sides == arrays["block_shapes"][:, 1].tolist()
    assert_equal_arrays(at_pixels(every, 32, arrays["pixel_index"][:3]), arrays["all_features"])
    assert_equal_arrays([one[0].mean() for one in every], arrays["map_means"])
    assert_equal_arrays([one[0].std() for one in every], arrays["map_deviations"])


@pytest.mark.parametrize("noisy", [False, True], ids=["mean", "noise"])
@pytest.mark.parametrize("count", [1, 3])
@torch.inference_mode()
def test_the_posterior_is_the_published_codes(weights: dict[str, Tensor], count: int, noisy: bool) -> None:
    """Of the posterior only the mean is read. With the deviation that the file has and the recorded noise, every block
    gives what the published code gives when it draws."""
    arrays, published = recorded("vdvae32"), state("vdvae32")
    network = SMALL.build()
    network.load_state_dict(weights)
    means, spreads = [], []

    def draw(index: int) -> Any:
        def hook(conv: nn.Module, entering: tuple[Tensor], mean: Tensor) -> Tensor:
            weight, bias = (published[f"decoder.dec_blocks.{index}.enc.c4.{kind}"][16:] for kind in ("weight", "bias"))
            spread = F.conv2d(entering[0], weight, bias)
            means.append(mean[0])
            spreads.append(spread[0])
            noise = golden_weights.noise(100 + index, (1, *mean.shape[1:]))
            return mean + spread.exp() * torch.from_numpy(noise) if noisy else mean

        return hook

    for index, block in enumerate(network.decoder.dec_blocks):
        block.enc.c4.register_forward_hook(draw(index))
    images = np.stack([golden_weights.image(VDVAE_SEED + index, 32) for index in range(count)])
    maps = network.activations(SMALL.preprocess(images, "cpu"), range(23))
    prefix = "noise_" if noisy else ""
    assert_equal_arrays([one[0].mean() for one in maps], arrays[f"{prefix}map_means"])
    assert_equal_arrays([one[0].std() for one in maps], arrays[f"{prefix}map_deviations"])
    read = [maps[block] for block in arrays["blocks"]]
    assert_equal_arrays(at_pixels(read, 32, arrays["pixel_index"]), arrays[f"{prefix}features"])
    for name, found in (("mean", means), ("logsigma", spreads)) if not noisy else ():
        assert_equal_arrays([one.mean() for one in found], arrays[f"posterior_{name}_means"])
        assert_equal_arrays([one.std() for one in found], arrays[f"posterior_{name}_deviations"])


def test_other_sizes_equal_the_equations() -> None:
    published, weights = random_weights(OTHER)
    images = tiny_networks.images(2, 24)
    found = maps_of(OTHER, weights, images, range(len(OTHER.block_channels)))
    expected = plain_vdvae(OTHER, published, (torch.tensor(images).permute(0, 3, 1, 2) + OTHER.shift) / OTHER.deviation)
    assert len(found) == len(expected) == len(OTHER.block_sides)
    for actual, wanted, side in zip(found, expected, OTHER.block_sides, strict=True):
        assert actual.shape == (2, 10, side, side)
        assert_equal_arrays(actual, wanted.numpy())


def random_weights(config: VDVAEConfig) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights with the published shapes, and what is read of them."""
    published, read = {}, {}
    for key, shape in weight_shapes(config).items():
        more = {"enc.c4": config.zdim, "prior.c4": 2 * config.zdim}.get(".".join(key.split(".")[-3:-1]), 0)
        published[key] = weight("other", key, (shape[0] + more, *shape[1:]))
        read[key] = published[key][: shape[0]] if ".enc.c4" in key else published[key][more:]
    return published, read


def plain_vdvae(config: VDVAEConfig, state: dict[str, Tensor], x: Tensor) -> list[Tensor]:
    """The equations word for word, on weights with the published shapes; outputs of all blocks."""

    def f(part: str, h: Tensor) -> Tensor:
        for conv in ("c1", "c2", "c3", "c4"):
            h = convolved(f"{part}.{conv}", F.gelu(h))
        return h

    def convolved(part: str, h: Tensor) -> Tensor:
        kernel = state[f"{part}.weight"]
        return F.conv2d(h, kernel, state[f"{part}.bias"], padding=kernel.shape[-1] // 2)

    def listed(text: str) -> list[tuple[int, str, int]]:
        parts = []
        for part in text.split(","):
            letter = next((one for one in part if not one.isdigit()), "x")
            resolution, number = (int(one) for one in f"{part}{'' if letter in part else 'x1'}".split(letter))
            parts += [(resolution, letter, number)] * (number if letter == "x" else 1)
        return parts

    h = convolved("encoder.in_conv", x)
    encoded, outputs = {h.shape[-1]: h}, []
    for index, (_, letter, number) in enumerate(listed(config.enc_blocks)):
        h = h + f(f"encoder.enc_blocks.{index}", h)
        h = F.avg_pool2d(h, number) if letter == "d" else h
        encoded[h.shape[-1]] = h
        outputs.append(h)
    states = {bias.shape[-1]: bias for key, bias in state.items() if "bias_xs" in key}
    for index, (resolution, letter, number) in enumerate(listed(config.dec_blocks)):
        part, a = f"decoder.dec_blocks.{index}", encoded[resolution]
        h = states.get(resolution, torch.zeros_like(a)) + torch.zeros_like(a)
        if letter == "m":
            h = h + states[number].repeat_interleave(resolution // number, 2).repeat_interleave(resolution // number, 3)
        mean, _ = f(f"{part}.enc", torch.cat([h, a], dim=1)).chunk(2, dim=1)
        h = h + f(f"{part}.prior", h)[:, 2 * config.zdim :] + convolved(f"{part}.z_proj", mean)
        states[resolution] = h + f(f"{part}.resnet", h)
        outputs.append(states[resolution])
    return outputs


def test_blocks_batches_and_order() -> None:
    tiny_networks.assert_extractor_keeps_its_word(tiny_networks.TINY_VDVAE)


def test_other_blocks_and_their_order_change_nothing(weights: dict[str, Tensor]) -> None:
    images = tiny_networks.images(3, 32)
    every = maps_of(SMALL, weights, images, range(23))
    for blocks in ((0, 22), (22, 5, 5), (3,), (12,), (18, 11)):
        some = maps_of(SMALL, weights, images, blocks)
        for actual, expected in zip(some, (every[block] for block in sorted(set(blocks))), strict=True):
            tiny_networks.assert_close(actual, expected, 1e-5)


def test_nothing_is_computed_after_the_last_block() -> None:
    network, x = SMALL.build(), torch.zeros(1, 3, 32, 32)
    network.decoder.dec_blocks[5] = nn.Module()  # block 17, which could not be called
    assert [one.shape for one in network.activations(x, (4, 16))] == [(1, 48, 16, 16), (1, 48, 8, 8)]
    network.encoder.enc_blocks[5], network.decoder = nn.Module(), nn.Module()
    network.decoder.layers = SMALL.decoder
    network.decoder.forward = lambda encoded, wanted: [] if not encoded and not wanted else pytest.fail("decoded")
    assert [one.shape for one in network.activations(x, (0, 4))] == [(1, 48, 32, 32), (1, 48, 16, 16)]


def test_what_no_later_block_reads_is_not_held() -> None:
    network = SMALL.build()
    with torch.inference_mode():
        _, encoded = network.encoder(torch.zeros(1, 3, 32, 32), (), {1, 4})
        assert sorted(encoded) == [1, 4]
        held: list[list[int]] = []
        for block in network.decoder.dec_blocks:
            block.register_forward_pre_hook(lambda *_: held.append(sorted(encoded)))
        network.decoder(encoded, {3})  # blocks at 1, 1, 4 and 4
    assert held == [[1, 4], [1, 4], [4], [4]]
    assert not encoded


def test_the_decoder_has_no_part_that_only_sampling_needs() -> None:
    shapes = weight_shapes(SMALL)
    assert shapes["decoder.dec_blocks.0.enc.c4.weight"] == (16, 12, 1, 1)  # no deviation of the posterior
    assert shapes["decoder.dec_blocks.0.prior.c4.weight"] == (48, 12, 1, 1)  # nothing of the prior's distribution
    assert not [key for key in shapes if key.startswith(("decoder.out_net", "decoder.gain", "decoder.bias."))]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"enc_blocks": "32x2,16x2"}, "enc_blocks 32x2,16x2: a block at 16, but the block before it gives 32"),
        ({"image_size": 64}, "a block at 32, but image_size is 64"),
        ({"enc_blocks": "32d3"}, "3 does not divide 32"),
        ({"enc_blocks": "32x2,32m2"}, "enc_blocks: '32m2'; expected blocks between commas, as 8, 8x3 or 8d2"),
        ({"enc_blocks": ""}, "enc_blocks: ''; expected blocks"),
        ({"enc_blocks": "32x999"}, "number of blocks in enc_blocks must be at most 256, got 999"),
        ({"enc_blocks": "32x99999999999"}, "enc_blocks: '32x99999999999'; expected"),
        ({"dec_blocks": "1,2"}, "dec_blocks 1,2: a block at 2, but the encoder gives 1, 4, 8, 16, 32"),
        ({"dec_blocks": "4,4m1"}, "4m1: 1 must be an earlier block's resolution"),
        ({"dec_blocks": "4,1m4"}, "1m4: 4 must be"),
        ({"dec_blocks": "1x0"}, "'1x0'; expected"),
        ({"width": 0}, "width must be at least 1"),
        ({"zdim": 10**9}, "zdim must be at most"),
        ({"deviation": 0.0}, "deviation must be at least"),
        ({"deviation": float("nan")}, "deviation must be"),
        ({"shift": float("inf")}, "shift must be at most"),
        ({"no_bias_above": -1}, "no_bias_above must be at least 0"),
    ],
)
def test_impossible_architectures_are_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        replace(SMALL, **change)
