"""Checkpoints of openai/vdvae: what is read of them, and what contradicts them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ddpm_seg.model.networks.vdvae import VDVAEConfig
from ddpm_seg.model.published.vdvae import load_vdvae, published_shapes
from tests.model.recorded_extractors import shapes
from tests.model.recorded_vdvae_alae import DEC_BLOCKS, ENC_BLOCKS, VDVAE32_FLAGS, save, state, without_values

pytestmark = pytest.mark.usefixtures("small_checkpoints")

State = dict[str, Tensor]
WHOLE = state("vdvae32")


def test_the_published_network_is_recognised(tmp_path: Path) -> None:
    network, weights = load_vdvae(save(tmp_path / "ffhq256-iter-1700000-model-ema.th", without_values("vdvae_ffhq256")))
    assert network == VDVAEConfig(
        image_size=256,
        width=512,
        inner_width=128,
        zdim=16,
        enc_blocks="256x3,256d2,128x8,128d2,64x12,64d2,32x17,32d2,16x7,16d2,8x5,8d2,4x5,4d4,1x4",
        dec_blocks="1x2,4m1,4x3,8m4,8x4,16m8,16x9,32m16,32x21,64m32,64x13,128m64,128x7,256m128",
        no_bias_above=64,
        shift=-112.8666757481,
        deviation=69.84780273,
    )
    features = network.published_features()
    assert features.blocks == (2, 11, 24, 42, 50, 56, 62, 67, 69, 73, 78, 88, 110, 124, 132, 133)
    assert features.sides(network) == [256, 128, 64, 32, 16, 8, 4, 1, 1, 4, 8, 16, 32, 64, 128, 256]
    assert sum(features.channels(network)) == 8192
    assert sum(value.numel() for value in weights.values()) < 114_874_852


@pytest.mark.parametrize(
    ("image_size", "width", "enc_blocks", "dec_blocks", "shift", "deviation"),
    [
        (
            *(64, 512, "64x11,64d2,32x20,32d2,16x9,16d2,8x8,8d2,4x7,4d4,1x5"),
            *("1x2,4m1,4x3,8m4,8x7,16m8,16x15,32m16,32x31,64m32,64x12", -115.92961967, 69.37404),
        ),
        (
            *(32, 512, "32x15,32d2,16x9,16d2,8x8,8d2,4x6,4d4,1x6"),
            *("1x2,4m1,4x4,8m4,8x9,16m8,16x19,32m16,32x40", -116.2373, 69.37404),
        ),
        (
            *(32, 384, "32x11,32d2,16x6,16d2,8x6,8d2,4x3,4d4,1x3"),
            *("1x1,4m1,4x2,8m4,8x5,16m8,16x10,32m16,32x21", -120.63838, 64.16736),
        ),
    ],
    ids=["imagenet64", "imagenet32", "cifar10"],
)
def test_the_others_are_recognised_too(
    tmp_path: Path, image_size: int, width: int, enc_blocks: str, dec_blocks: str, shift: float, deviation: float
) -> None:
    strings, standard = {"enc_blocks": enc_blocks, "dec_blocks": dec_blocks}, {"shift": shift, "deviation": deviation}
    sizes = {"image_size": image_size, "width": width, "inner_width": width // 4, "zdim": 16, "no_bias_above": 64}
    config = VDVAEConfig(**strings, **standard, **sizes)
    zeros = {key: torch.zeros(()).expand(shape) for key, shape in published_shapes(config).items()}
    assert load_vdvae(save(tmp_path / "model.th", zeros))[0] == config


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_every_form_of_the_file_is_the_same(tmp_path: Path, legacy: bool, prefix: str) -> None:
    path = save(tmp_path / "model.th", {prefix + key: value for key, value in WHOLE.items()}, legacy=legacy)
    network, weights = load_vdvae(path, VDVAE32_FLAGS)
    assert (network.image_size, network.width, network.inner_width, network.no_bias_above) == (32, 48, 12, 8)
    assert torch.equal(weights["decoder.bias_xs.2"], WHOLE["decoder.bias_xs.2"])
    assert torch.equal(weights["decoder.dec_blocks.3.enc.c4.weight"], WHOLE["decoder.dec_blocks.3.enc.c4.weight"][:16])
    assert torch.equal(weights["decoder.dec_blocks.3.prior.c4.bias"], WHOLE["decoder.dec_blocks.3.prior.c4.bias"][32:])


def test_the_projects_other_flags_are_taken(tmp_path: Path) -> None:
    given = {"width": "48", "zdim": "16", "bottleneck_multiple": "0.25", "no_bias_above": "8", "image_size": "32"}
    network, _ = load_vdvae(save(tmp_path / "model.th", WHOLE), {**VDVAE32_FLAGS, **given, "custom_width_str": ""})
    assert network == load_vdvae(str(tmp_path / "model.th"), VDVAE32_FLAGS)[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"enc_blocks": ENC_BLOCKS + "1"}, "--enc_blocks .* lists 31 blocks, but the checkpoint has 12"),
        ({"enc_blocks": ENC_BLOCKS[:-2]}, "--enc_blocks .*d4,1 lists 11 blocks, but the checkpoint has 12"),
        ({"dec_blocks": DEC_BLOCKS + ",32"}, "--dec_blocks .* lists 12 blocks, but the checkpoint has 11"),
        (
            {"enc_blocks": "32x2,32d2,16x2,16d8,2x1,2d1,2d2,1x3", "dec_blocks": "1x2,2m1,2,2,2x2,16m2,16x2,32m16"},
            r"--enc_blocks .* puts block 6 at resolution 2, whose kernels are 1 x 1, but encoder\.enc_blocks\.6",
        ),
        (
            {"dec_blocks": "1x2,4m1,4x1,16m4,16x2,16x3,32m16"},
            r"--dec_blocks .* needs decoder\.bias_xs at .*\[1, 4\], but .*\[1, 4, 8\]",
        ),
        ({"no_bias_above": "16"}, r"--no_bias_above 16 needs decoder\.bias_xs at .*16\], but .*\[1, 4, 8\]"),
        ({"width": "512"}, r"--width 512, but the checkpoint has width 48 \(enc"),
        ({"zdim": "8"}, "--zdim 8, but the checkpoint has zdim 16"),
        ({"bottleneck_multiple": "0.5"}, "--bottleneck_multiple 0.5, but .* 12 channels inside"),
        ({"image_size": "64"}, "enc_blocks .* a block at 32, but image_size is 64"),
        ({"image_size": "big"}, "--image_size big; expected an integer"),
        ({"bottleneck_multiple": "x"}, "--bottleneck_multiple x; expected a number"),
        ({"dataset": "celeba"}, "--dataset celeba; expected one of cifar10"),
        ({"enc_blocks": "32y2"}, "model flags: enc_blocks: '32y2'; expected blocks"),
        ({"hps": "ffhq"}, "--hps ffhq; expected one of cifar10, imagenet32"),
        ({"hps": "ffhq1024"}, "--hps ffhq1024: in ffhq1024 the width differs by resolution"),
        ({"dataset": "ffhq_1024"}, "--dataset ffhq_1024: in ffhq1024"),
        ({"custom_width_str": "512:32"}, "--custom_width_str 512:32: in ffhq1024"),
    ],
)
def test_a_contradicting_flag_is_named(tmp_path: Path, change: dict[str, str], message: str) -> None:
    path = save(tmp_path / "model.th", WHOLE)
    with pytest.raises(ValueError, match=message):
        load_vdvae(path, {**VDVAE32_FLAGS, **change})


def test_flags_that_the_file_needs_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "model.th", WHOLE)
    with pytest.raises(ValueError, match=r"width 48 with 12 enc_blocks and 11 dec_blocks, .* --dataset, --dec_"):
        load_vdvae(path)
    with pytest.raises(ValueError, match=r"as --model-flags: --dataset$"):
        load_vdvae(path, {"enc_blocks": ENC_BLOCKS, "dec_blocks": DEC_BLOCKS})


def test_widths_that_differ_by_resolution_are_those_of_ffhq1024(tmp_path: Path) -> None:
    key = "encoder.enc_blocks.7.c1.weight"
    path = save(tmp_path / "ffhq1024.th", {**WHOLE, key: torch.zeros(12, 96, 1, 1)})
    with pytest.raises(ValueError, match=r"ffhq1024\.th: this VDVAE has several widths \(48, 96\), like f"):
        load_vdvae(path, VDVAE32_FLAGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda whole: whole.pop("encoder.enc_blocks.3.c2.bias"), r"it lacks encoder\.enc_blocks\.3\.c2\.bias"),
        (lambda whole: whole.pop("encoder.in_conv.weight"), r"not a VDVAE checkpoint: it has no encoder\.in_conv"),
        (
            lambda whole: whole.update({"decoder.extra": torch.zeros(3)}),
            r"it has decoder\.extra, which the network lacks",
        ),
        (lambda whole: whole["decoder.bias_xs.1"].fill_(torch.nan), "bias_xs.1 has values that are not finite"),
        (lambda whole: whole["decoder.dec_blocks.9.enc.c4.bias"][30:].fill_(torch.inf), "enc.c4.bias has values that"),
        (lambda whole: whole.update({"encoder.in_conv.weight": torch.zeros(3)}), r"in_conv\.weight is \(3,\)"),
        (lambda whole: whole.update({"encoder.in_conv.weight": torch.zeros(48, 1, 3, 3)}), r"expected \(48, 3, 3, 3\)"),
        (
            lambda whole: whole.update({"encoder.in_conv.weight": torch.zeros(()).expand(10**9, 3, 3, 3)}),
            "width must be at most 16384",
        ),
        (lambda whole: whole.update({"encoder.in_conv.weight": torch.zeros(0, 3, 3, 3)}), "width must be at least 1"),
        (lambda whole: whole.update({"decoder.bias_xs.0": torch.zeros(())}), "bias_xs"),
        (
            lambda whole: whole.update({f"encoder.enc_blocks.{'9' * 5000}.c1.weight": torch.zeros(3)}),
            "which the network",
        ),
    ],
)
def test_what_is_no_vdvae_is_said_so(tmp_path: Path, change: Callable[[State], object], message: str) -> None:
    whole = {key: value.clone() for key, value in WHOLE.items()}
    change(whole)
    with pytest.raises(ValueError, match=message) as error:
        load_vdvae(save(tmp_path / "model.th", whole), VDVAE32_FLAGS)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_the_shapes_recorded_are_whole() -> None:
    assert set(shapes("vdvae32")) == set(WHOLE)
