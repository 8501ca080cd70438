"""The network against the plain one of transcription.py, and what it promises beyond: early exit, little memory."""

from __future__ import annotations

import dataclasses
import json
import math
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ddpm_seg.benchmark import transcription
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.networks.diffusion.unet import UNet, UNetConfig, timestep_embedding
from tests.model.tiny_networks import assert_close, drawn_config, network, normal, weights

CONFIG = UNetConfig(
    image_size=16, num_channels=32, num_res_blocks=2, channel_mult=(1, 1, 2), attention_resolutions=(8,), num_heads=2
)
LSUN_256: dict[str, Any] = {
    "image_size": 256, "num_res_blocks": 2, "channel_mult": (1, 1, 2, 2, 4, 4), "attention_resolutions": (32, 16, 8),
    "num_head_channels": 64, "resblock_updown": True, "learn_sigma": True,
}  # fmt: skip


@pytest.mark.parametrize("seed", range(24))
@torch.inference_mode()
def test_equals_the_plain_network(seed: int) -> None:
    config = drawn_config(seed)
    unet = network(config)
    # Rarely the network's own size or a square; two pixels at the bottom, for group norm to have a variance.
    height, width = config.stride * (2 + seed % 2), config.stride * (1 + (seed + 1) % 4)
    x = normal(seed, 1 + seed % 3, 3, height, width)
    t_N = torch.tensor([3.0, 250.5, 999.0])[: len(x)]
    maps, output = transcription.unet(config, weights(config), x, t_N)

    actual = unet.activations(x, t_N, range(len(config.block_channels)))
    assert len(actual) == len(maps)
    for map_NCHW, expected in zip(actual, maps, strict=True):
        assert_close(map_NCHW, expected)
    assert_close(unet(x, t_N), output)
    assert output.shape[1] == (6 if config.learn_sigma else 3)
    assert [m.shape[1] for m in actual] == config.block_channels
    assert [(height // m.shape[2], width // m.shape[3]) for m in actual] == [(s, s) for s in config.block_strides]


def test_drawn_networks_cover_every_flag() -> None:
    configs = [drawn_config(seed) for seed in range(24)]
    for flag in ("resblock_updown", "use_scale_shift_norm", "use_new_attention_order", "learn_sigma"):
        assert {getattr(config, flag) for config in configs} == {True, False}
    assert {config.num_res_blocks for config in configs} == {1, 2, 3}
    assert any(min(config.channel_mult) < 1 for config in configs)
    for name in ("num_head_channels", "num_heads_upsample"):
        assert {None, 8} <= {getattr(config, name) for config in configs}


def test_published_256_network_has_the_published_weights() -> None:
    published = json.loads((Path(__file__).parents[2] / "golden/lsun256.unet_shapes.json").read_text())
    quarter = weight_shapes(UNetConfig(num_channels=64, **LSUN_256))
    assert quarter == {key: tuple(shape) for key, shape in published.items()}
    whole = weight_shapes(UNetConfig(num_channels=256, **LSUN_256))
    assert list(whole) == list(published)
    assert round(sum(map(math.prod, whole.values())) / 1e6, 1) == 552.8


def test_new_network_says_nothing() -> None:
    assert not UNet(CONFIG)(normal(0, 1, 3, 16, 16), torch.tensor([5])).any()


@pytest.mark.parametrize("last", [0, 3, 8])
@torch.inference_mode()
def test_nothing_runs_after_the_last_block(last: int) -> None:
    unet, x, t_N = network(CONFIG), normal(0, 1, 3, 16, 16), torch.tensor([5])
    expected = unet.activations(x, t_N, [last])[0]
    called: list[nn.Module] = []
    for module in (*unet.output_blocks, unet.out):
        module.register_forward_pre_hook(lambda module, _: called.append(module))
    for module in (*unet.output_blocks[last + 1 :], unet.out):
        for parameter in module.parameters():
            parameter.fill_(math.nan)
    assert torch.equal(unet.activations(x, t_N, [last])[0], expected)
    assert called == list(unet.output_blocks[: last + 1])


@pytest.mark.parametrize("last", [0, 3, 8])
@torch.inference_mode()
def test_only_encoder_outputs_that_will_be_read_are_held(last: int) -> None:
    unet = network(CONFIG)
    outputs: list[weakref.ref[torch.Tensor]] = []
    alive: list[bool] = []
    for block in unet.input_blocks:
        block.register_forward_hook(lambda _, __, output: outputs.append(weakref.ref(output)))
    unet.middle_block.register_forward_hook(lambda *_: alive.extend(ref() is not None for ref in outputs))
    unet.activations(normal(0, 1, 3, 16, 16), torch.tensor([5]), [last])
    unread = len(unet.input_blocks) - (last + 1)
    assert alive == [False] * unread + [True] * (last + 1)


def test_blocks_come_ascending_whatever_the_order_asked() -> None:
    unet, x, t_N = network(CONFIG), normal(0, 2, 3, 16, 24), torch.tensor([5, 90])
    ascending = unet.activations(x, t_N, (1, 4, 6))
    for actual, expected in zip(unet.activations(x, t_N, (6, 1, 4, 1)), ascending, strict=True):
        assert torch.equal(actual, expected)


def test_images_of_a_batch_do_not_meet() -> None:
    unet, x, t_N = network(CONFIG), normal(0, 5, 3, 16, 16), torch.tensor([5, 90, 0, 999, 5])
    for index, alone in enumerate(zip(x.split(1), t_N.split(1), strict=True)):
        assert_close(unet(x, t_N)[index : index + 1], unet(*alone), 1e-5)


def test_bfloat16_torso_keeps_norms_and_embedding_in_float32() -> None:
    x, t_N = normal(0, 1, 3, 16, 16), torch.tensor([50])
    expected = network(CONFIG)(x, t_N)
    unet = network(CONFIG).cast_torso(torch.bfloat16)
    for name, parameter in unet.named_parameters():
        in_torso = not name.startswith(("time_embed", "out.")) and ".emb_layers" not in name
        is_norm = parameter.dim() == 1 and name.rsplit(".", 1)[0] + ".weight" in _norms(unet)
        assert parameter.dtype == (torch.bfloat16 if in_torso and not is_norm else torch.float32), name
    output = unet(x, t_N)
    assert output.dtype == torch.float32
    assert_close(output, expected, 0.1)


def _norms(unet: UNet) -> set[str]:
    return {f"{name}.weight" for name, module in unet.named_modules() if isinstance(module, nn.GroupNorm)}


def test_timestep_embedding_has_half_cosines_half_sines() -> None:
    embedding = timestep_embedding(torch.tensor([0, 7]), 8)
    assert embedding[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    frequencies = torch.tensor([1, 0.1, 0.01, 0.001])
    torch.testing.assert_close(embedding[1], torch.cat([(7 * frequencies).cos(), (7 * frequencies).sin()]))
    assert timestep_embedding(torch.tensor([7]), 9)[0, -1] == 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"image_size": 18}, "18"),
        ({"image_size": 0}, "image_size must be at least 1, got 0"),
        ({"num_channels": 48}, "48"),
        ({"num_res_blocks": 0}, "num_res_blocks must be at least 1, got 0"),
        ({"channel_mult": ()}, r"\(\)"),
        ({"channel_mult": (1, 0.5)}, "16"),
        ({"channel_mult": (1, -1)}, "-32"),
        ({"attention_resolutions": (8, 0)}, r"\(8, 0\)"),
        ({"num_heads": 0}, "num_heads must be at least 1, got 0"),
        ({"num_heads": 3}, "num_heads 3"),
        ({"num_head_channels": 0}, "num_head_channels must be at least 1, got 0"),
        ({"num_head_channels": 48}, "num_head_channels 48"),
        ({"num_heads_upsample": 5}, "num_heads_upsample 5"),
        ({"num_heads_upsample": -1}, "num_heads_upsample must be at least 1, got -1"),
        ({"dropout": 1.0}, "1.0"),
    ],
)
def test_impossible_architectures_are_refused(change: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(CONFIG, **change)


@pytest.mark.parametrize("blocks", [[], [-1], [0, 9]])
def test_blocks_that_do_not_exist_are_refused(blocks: list[int]) -> None:
    with pytest.raises(ValueError, match=r"0\.\.8"):
        UNet(CONFIG).activations(normal(0, 1, 3, 16, 16), torch.tensor([5]), blocks)


def test_sides_that_do_not_halve_evenly_are_refused() -> None:
    with pytest.raises(ValueError, match=r"multiples of 4, got \(16, 18\)"):
        UNet(CONFIG)(normal(0, 1, 3, 16, 18), torch.tensor([5]))
