"""Translates guided-diffusion's command line (`script_util.py`) to our configurations, and checks it against a
checkpoint's shapes."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.shapes import Shapes

DEFAULTS: dict[str, int | float | bool | str] = {
    "image_size": 64,
    "num_channels": 128,
    "num_res_blocks": 2,
    "num_heads": 4,
    "num_heads_upsample": -1,
    "num_head_channels": -1,
    "attention_resolutions": "16,8",
    "channel_mult": "",
    "dropout": 0.0,
    "class_cond": False,
    "use_scale_shift_norm": True,
    "resblock_updown": False,
    "use_new_attention_order": False,
    "learn_sigma": False,
    "diffusion_steps": 1000,
    "noise_schedule": "linear",
    "timestep_respacing": "",
    "predict_xstart": False,
    "rescale_timesteps": False,
    # Speed, memory and the training loss: accepted, but without effect on what the network computes.
    "use_fp16": False,
    "use_checkpoint": False,
    "use_kl": False,
    "rescale_learned_sigmas": False,
}
"""Values of flags that are not given (`model_and_diffusion_defaults`)."""

_CHANNEL_MULT = {512: "0.5,1,1,2,2,4,4", 256: "1,1,2,2,4,4", 128: "1,1,2,3,4", 64: "1,2,3,4"}
_TRUE, _FALSE = ("yes", "true", "t", "y", "1"), ("no", "false", "f", "n", "0")


def split_model_flags(text: str, known: Collection[str] = tuple(DEFAULTS)) -> dict[str, str]:
    """The flags in a MODEL_FLAGS string (`--flag value` or `--flag=value`), with values as text: `{"num_channels":
    "256", …}`.

    Raises ValueError for an unknown flag or one without a value.
    """
    try:
        words = iter(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"model flags: {text!r}: {error}") from None
    flags: dict[str, str] = {}
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name not in known:
            raise ValueError(f"model flags: unknown {word!r}; expected --FLAG VALUE, FLAG one of {', '.join(known)}")
        if not equals:
            value = next(words, "--")
            if value.startswith("--"):
                raise ValueError(f"model flags: --{name} has no value; write --{name} VALUE")
        flags[name] = value
    return flags


def configs_from_flags(flags: Mapping[str, Any]) -> tuple[UNetConfig, DiffusionConfig]:
    """Configurations from `{flag: value or its text}`; other flags get guided-diffusion's defaults. Raises
    ValueError."""
    given = {name: _read(name, flags.get(name, default)) for name, default in DEFAULTS.items()}
    if given["class_cond"]:
        raise ValueError("model flags: class_cond True, but only unconditional networks can be read; set it to False")
    if given["timestep_respacing"]:
        raise ValueError(
            f"model flags: timestep_respacing {given['timestep_respacing']!r}, but steps are those of the whole "
            "schedule; leave it out"
        )
    size = given["image_size"]
    multipliers = given["channel_mult"] or _CHANNEL_MULT.get(size)
    if not multipliers:
        raise ValueError(
            f"model flags: image_size {size} has no usual channel_mult; give --channel_mult, such as 1,2,4"
        )
    same = ("num_channels", "num_res_blocks", "num_heads", "resblock_updown", "use_scale_shift_norm", "learn_sigma")
    unet = UNetConfig(
        image_size=size,
        channel_mult=tuple(_numbers("channel_mult", multipliers, float)),
        attention_resolutions=tuple(_numbers("attention_resolutions", given["attention_resolutions"], int)),
        num_head_channels=_optional("num_head_channels", given["num_head_channels"]),
        num_heads_upsample=_optional("num_heads_upsample", given["num_heads_upsample"]),
        use_new_attention_order=given["use_new_attention_order"],
        dropout=given["dropout"],
        **{name: given[name] for name in same},
    )
    diffusion = DiffusionConfig(
        steps=given["diffusion_steps"],
        noise_schedule=given["noise_schedule"],
        predict_xstart=given["predict_xstart"],
        rescale_timesteps=given["rescale_timesteps"],
    )
    return unet, diffusion


def _read(name: str, value: Any) -> Any:
    """A flag's value or text as the type of its default."""
    text, kind = str(value).strip(), type(DEFAULTS[name])
    if kind is bool:
        if text.lower() in (*_TRUE, *_FALSE):
            return text.lower() in _TRUE
        raise ValueError(f"model flags: {name} {text!r}; expected True or False")
    try:
        return kind(text)
    except ValueError:
        expected = "an integer" if kind is int else "a number"
        raise ValueError(f"model flags: {name} {text!r}; expected {expected}") from None


def _numbers(name: str, text: str, kind: type) -> list[Any]:
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(number > 0 for number in numbers):
        raise ValueError(f"model flags: {name} {text!r}; expected positive numbers between commas, such as 1,2,4")
    return numbers


def _optional(name: str, value: int) -> int | None:
    """None for the published -1."""
    if value == -1:
        return None
    if value < 1:
        raise ValueError(f"model flags: {name} {value}; expected a positive integer, or -1 for none")
    return value


def contradictions(unet: UNetConfig, shapes: Shapes) -> list[str]:
    """One sentence for each flag that the shapes of a checkpoint contradict, with what they show instead.

    Heads (`num_heads`, `num_head_channels`, `use_new_attention_order`), the schedule and `image_size` do not show in
    shapes and cannot be checked here.
    """
    return [
        f"--{flag} {_show(configured)}, but the checkpoint has {flag} {_show(found)} ({evidence})"
        for flag, configured, found, evidence in _facts(unet, shapes)
        if found is not None and found != configured
    ]


def _facts(unet: UNetConfig, shapes: Shapes) -> Iterator[tuple[str, Any, Any, str]]:
    """Yields flag, configured value, the value that the checkpoint shows (None if it cannot tell), and the evidence."""
    yield "class_cond", False, "label_emb.weight" in shapes, "by label_emb.weight"

    key = "time_embed.0.weight"
    width = _side(shapes, key, 1)
    yield "num_channels", unet.num_channels, width, f"{key} is {shapes.get(key)}"

    key = "out.2.weight"
    found_sigma = {3: False, 6: True}.get(_side(shapes, key, 0) or 0)
    yield "learn_sigma", unet.learn_sigma, found_sigma, f"{key} is {shapes.get(key)}"

    key = "input_blocks.1.0.emb_layers.1.weight"
    outputs, channels = _side(shapes, key, 0), _side(shapes, "input_blocks.1.0.out_layers.3.weight", 0)
    found_norm = outputs == 2 * channels if outputs and channels else None
    yield "use_scale_shift_norm", unet.use_scale_shift_norm, found_norm, f"{key} is {shapes.get(key)}"

    blocks = 1 + max((int(match[1]) for match in map(_OUTPUT_BLOCK.match, shapes) if match), default=-1)
    by_convolution = {int(match[1]) for match in map(_UP_CONVOLUTION.match, shapes) if match}
    by_resblock = {int(match[1]) for match in map(_UP_RESBLOCK.match, shapes) if match}
    levels = 1 + len(by_convolution | by_resblock)
    if blocks < 2 or blocks % levels:
        return
    per_level = blocks // levels
    found_updown = bool(by_resblock) if levels > 1 else None
    yield "resblock_updown", unet.resblock_updown, found_updown, "by its upsampling layers"
    yield "num_res_blocks", unet.num_res_blocks, per_level - 1, f"{blocks} output blocks on {levels} levels"
    yield from _level_facts(unet, shapes, levels, per_level, width)


def _level_facts(
    unet: UNetConfig, shapes: Shapes, levels: int, per_level: int, width: int | None
) -> Iterator[tuple[str, Any, Any, str]]:
    """`channel_mult` and `attention_resolutions`, from the first decoder block of every level, finest level first."""
    first = [f"output_blocks.{(levels - 1 - level) * per_level}" for level in range(levels)]
    channels = [_side(shapes, f"{block}.0.out_layers.3.weight", 0) for block in first]
    if width and all(channels):
        # Compare channels, not multipliers: the published code rounds, as in int(0.5 * 33).
        agrees = [int(multiplier * width) for multiplier in unet.channel_mult] == channels
        found_mult = unet.channel_mult if agrees else tuple(side / width for side in channels if side)
        evidence = f"{', '.join(map(str, channels))} channels on {levels} levels; if not given, image_size chooses it"
        yield "channel_mult", unet.channel_mult, found_mult, evidence
    attended = [level for level in range(levels) if f"{first[level]}.1.qkv.weight" in shapes]
    agrees = attended == [level for level in range(levels) if unet.has_attention(level)]
    found_sizes = tuple(unet.image_size // 2**level for level in attended)
    configured = unet.attention_resolutions
    evidence = f"of image_size {unet.image_size}; qkv layers on levels {', '.join(map(str, attended)) or 'none'}"
    yield "attention_resolutions", configured, configured if agrees else found_sizes, evidence


_OUTPUT_BLOCK = re.compile(r"output_blocks\.(\d+)\.")
_UP_CONVOLUTION = re.compile(r"output_blocks\.(\d+)\.[12]\.conv\.weight")
_UP_RESBLOCK = re.compile(r"output_blocks\.(\d+)\.[12]\.in_layers\.2\.weight")


def _side(shapes: Shapes, key: str, axis: int) -> int | None:
    shape = shapes.get(key, ())
    return shape[axis] if axis < len(shape) else None


def _show(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{number:g}" for number in value) or "(none)"
    return str(value)
