"""MODEL_FLAGS strings, and what the shapes of a checkpoint say against them."""

from __future__ import annotations

import itertools
import math

import pytest

from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.published.flags import configs_from_flags, contradictions, split_model_flags
from ddpm_seg.model.published.names import LSUN_FFHQ_256

BASE = {
    "image_size": "32",
    "num_channels": "32",
    "num_res_blocks": "2",
    "channel_mult": "1,2,2",
    "attention_resolutions": "16",
    "learn_sigma": "False",
    "resblock_updown": "False",
    "use_scale_shift_norm": "True",
}


def _parsed(flags: str) -> tuple[UNetConfig, DiffusionConfig]:
    return configs_from_flags(split_model_flags(flags))


def text(**changes: str) -> str:
    return " ".join(f"--{name} {value}" for name, value in {**BASE, **changes}.items())


def test_the_default_is_the_published_network() -> None:
    """552.8 million parameters: LSUN's and FFHQ's checkpoints."""
    unet, diffusion = _parsed(LSUN_FFHQ_256)
    assert round(sum(map(math.prod, weight_shapes(unet).values())) / 1e6, 1) == 552.8
    assert (unet.image_size, unet.channel_mult, unet.num_head_channels) == (256, (1, 1, 2, 2, 4, 4), 64)
    assert unet.attention_resolutions == (32, 16, 8)
    assert (diffusion.steps, diffusion.noise_schedule) == (1000, "linear")


def test_absent_flags_take_guided_diffusions_defaults() -> None:
    unet, diffusion = _parsed("")
    assert (unet.image_size, unet.num_channels, unet.num_res_blocks, unet.num_heads) == (64, 128, 2, 4)
    assert (unet.channel_mult, unet.attention_resolutions) == ((1, 2, 3, 4), (16, 8))
    assert (unet.num_head_channels, unet.num_heads_upsample) == (None, None)
    assert (unet.learn_sigma, unet.resblock_updown, unet.use_scale_shift_norm) == (False, False, True)
    assert (diffusion.steps, diffusion.predict_xstart, diffusion.rescale_timesteps) == (1000, False, False)


@pytest.mark.parametrize(
    ("size", "expected"),
    [(64, (1, 2, 3, 4)), (128, (1, 1, 2, 3, 4)), (256, (1, 1, 2, 2, 4, 4)), (512, (0.5, 1, 1, 2, 2, 4, 4))],
)
def test_image_size_chooses_channel_mult(size: int, expected: tuple[float, ...]) -> None:
    assert _parsed(f"--image_size {size}")[0].channel_mult == expected


def test_every_form_of_a_flag() -> None:
    unet, diffusion = _parsed(
        "--num_channels=64 --learn_sigma yes --num_heads_upsample -1 --num_head_channels=32 --use_fp16 True "
        "--use_new_attention_order t --noise_schedule cosine --diffusion_steps 4000 --timestep_respacing ''"
    )
    assert (unet.num_channels, unet.learn_sigma, unet.num_heads_upsample, unet.num_head_channels) == (
        64,
        True,
        None,
        32,
    )
    assert unet.use_new_attention_order
    assert (diffusion.steps, diffusion.noise_schedule) == (4000, "cosine")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--num_chanels 64", "num_chanels"),
        ("num_channels 64", "num_channels"),
        ("--num_channels", "num_channels has no value"),
        ("--num_channels --dropout 0.1", "num_channels has no value"),
        ("--num_channels many", "num_channels 'many'"),
        ("--learn_sigma maybe", "learn_sigma 'maybe'"),
        ("--dropout much", "dropout 'much'"),
        ("--channel_mult 1,x", "channel_mult '1,x'"),
        ("--attention_resolutions 0,8", "attention_resolutions '0,8'"),
        ("--class_cond True", "class_cond"),
        ("--timestep_respacing ddim25", "timestep_respacing 'ddim25'"),
        ("--image_size 48", "image_size 48"),
        ("--noise_schedule quadratic", "noise_schedule"),
        ("--num_head_channels 0", "num_head_channels 0"),
        ("--diffusion_steps 0", "diffusion steps"),
        ("--dropout '0.1", "quotation"),
    ],
)
def test_a_wrong_flag_is_named(flags: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _parsed(flags)


CHANGES = [
    ("num_channels", "64"),
    ("num_res_blocks", "1"),
    ("num_res_blocks", "3"),
    ("channel_mult", "1,2"),
    ("channel_mult", "1,2,2,2"),
    ("channel_mult", "1,1,2"),
    ("attention_resolutions", "16,8"),
    ("attention_resolutions", "8"),
    ("learn_sigma", "True"),
    ("resblock_updown", "True"),
    ("use_scale_shift_norm", "False"),
]


@pytest.mark.parametrize(("flag", "value"), CHANGES)
@pytest.mark.parametrize("swap", [False, True])
def test_one_wrong_flag_is_the_one_named(flag: str, value: str, swap: bool) -> None:
    """With what was configured and what the checkpoint has."""
    configured, real = text(), text(**{flag: value})
    values = BASE[flag], value
    if swap:
        configured, real, values = real, configured, values[::-1]
    found = contradictions(_parsed(configured)[0], weight_shapes(_parsed(real)[0]))
    assert len(found) == 1
    assert found[0].startswith(f"--{flag} {values[0]}, but the checkpoint has {flag} {values[1]} (")


def test_no_network_contradicts_its_own_flags() -> None:
    """Not for any pair of changes."""
    for first, second in itertools.combinations(CHANGES, 2):
        unet = _parsed(text(**dict([first, second])))[0]
        assert contradictions(unet, weight_shapes(unet)) == []


def test_a_class_conditional_checkpoint_is_named() -> None:
    unet = _parsed(text())[0]
    found = contradictions(unet, {**weight_shapes(unet), "label_emb.weight": (1000, 128)})
    assert ["class_cond True" in sentence for sentence in found] == [True]


def test_wrong_shapes_of_any_kind_do_not_break_the_diagnosis() -> None:
    unet = _parsed(text())[0]
    shapes = weight_shapes(unet)
    for key in shapes:
        contradictions(unet, {**shapes, key: ()})
        contradictions(unet, {other: shape for other, shape in shapes.items() if other != key})
