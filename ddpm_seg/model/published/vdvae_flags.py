"""Translates openai/vdvae's command line (`hps.py`) to our configuration, and checks it against a checkpoint's
shapes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from ddpm_seg.model.networks.vdvae import VDVAEConfig
from ddpm_seg.model.networks.vdvae_blocks import BlocksField, kernel_size, parse_blocks
from ddpm_seg.model.shapes import Shapes

FLAGS = (
    *("hps", "enc_blocks", "dec_blocks", "image_size", "dataset"),
    *("width", "zdim", "bottleneck_multiple", "no_bias_above", "custom_width_str"),
)
"""Flags that describe the network, and `image_size`, which openai/vdvae itself takes from the dataset."""
WIDTH = "encoder.in_conv.weight"
INNER = "encoder.enc_blocks.0.c1.weight"
ZDIM = "decoder.dec_blocks.0.z_proj.weight"
"""Entries of a checkpoint whose shapes show these numbers."""

_BLOCK_FLAGS: tuple[BlocksField, ...] = ("enc_blocks", "dec_blocks")
_NO_BIAS_ABOVE = 64  # in all published sets, and where no flag says otherwise
# What images are standardised with, by --dataset: shift and deviation.
_STANDARDS = {
    "cifar10": (-120.63838, 64.16736),
    "imagenet32": (-116.2373, 69.37404),
    "imagenet64": (-115.92961967, 69.37404),
    "ffhq_256": (-112.8666757481, 69.84780273),
}
# The flags that each --hps stands for.
_SETS = {
    "cifar10": {
        "enc_blocks": "32x11,32d2,16x6,16d2,8x6,8d2,4x3,4d4,1x3",
        "dec_blocks": "1x1,4m1,4x2,8m4,8x5,16m8,16x10,32m16,32x21",
        "dataset": "cifar10",
        "width": "384",
    },
    "imagenet32": {
        "enc_blocks": "32x15,32d2,16x9,16d2,8x8,8d2,4x6,4d4,1x6",
        "dec_blocks": "1x2,4m1,4x4,8m4,8x9,16m8,16x19,32m16,32x40",
        "dataset": "imagenet32",
        "width": "512",
    },
    "imagenet64": {
        "enc_blocks": "64x11,64d2,32x20,32d2,16x9,16d2,8x8,8d2,4x7,4d4,1x5",
        "dec_blocks": "1x2,4m1,4x3,8m4,8x7,16m8,16x15,32m16,32x31,64m32,64x12",
        "dataset": "imagenet64",
        "width": "512",
    },
    "ffhq256": {
        "enc_blocks": "256x3,256d2,128x8,128d2,64x12,64d2,32x17,32d2,16x7,16d2,8x5,8d2,4x5,4d4,1x4",
        "dec_blocks": "1x2,4m1,4x3,8m4,8x4,16m8,16x9,32m16,32x21,64m32,64x13,128m64,128x7,256m128",
        "dataset": "ffhq_256",
        "width": "512",
    },
}
_REFUSED = {("hps", "ffhq1024"), ("dataset", "ffhq_1024")}
_BLOCK = re.compile(r"(encoder\.enc_blocks|decoder\.dec_blocks)\.(\d{1,4})\.")
_BIAS = re.compile(r"decoder\.bias_xs\.\d+")


def config_from_flags(given: Mapping[str, str], shapes: Shapes, name: str) -> tuple[VDVAEConfig, dict[str, str]]:
    """The network of a checkpoint with these `shapes`, and all flags that describe it.

    Widths come from the shapes; strings and dataset come from the flags, or from the published set that the shapes
    match. Raises ValueError, with the checkpoint's `name` if it needs more flags.
    """
    flags = _all_flags(given, shapes, name)
    if flags["dataset"] not in _STANDARDS:
        raise ValueError(f"model flags: --dataset {flags['dataset']}; expected one of {', '.join(_STANDARDS)}")
    shift, deviation = _STANDARDS[flags["dataset"]]
    try:
        first_resolution = parse_blocks("enc_blocks", flags["enc_blocks"])[0][0]
        config = VDVAEConfig(
            image_size=_integer("image_size", flags, first_resolution),
            width=shapes[WIDTH][0],
            inner_width=shapes[INNER][0],
            zdim=shapes[ZDIM][1],
            enc_blocks=flags["enc_blocks"],
            dec_blocks=flags["dec_blocks"],
            no_bias_above=_integer("no_bias_above", flags, _NO_BIAS_ABOVE),
            shift=shift,
            deviation=deviation,
        )
    except ValueError as error:
        raise ValueError(f"model flags: {error}") from None
    biases = _bias_resolutions(shapes)
    if "no_bias_above" not in flags and biases != config.bias_resolutions:
        config = replace(config, no_bias_above=max(biases, default=0))
    return config, flags


def contradictions(config: VDVAEConfig, flags: Mapping[str, str], shapes: Shapes) -> Iterator[str]:
    """Yields one sentence for each flag that the shapes contradict, with what they show instead."""
    for flag, found, key in (("width", config.width, WIDTH), ("zdim", config.zdim, ZDIM)):
        if _integer(flag, flags, found) != found:
            yield f"--{flag} {flags[flag]}, but the checkpoint has {flag} {found} ({key} is {shapes[key]})"
    multiple = flags.get("bottleneck_multiple", "")
    if multiple and config.inner_width != int(config.width * _number("bottleneck_multiple", multiple)):
        widths = f"width {config.width} and {config.inner_width} channels inside its blocks"
        yield f"--bottleneck_multiple {multiple}, but the checkpoint has {widths} ({INNER} is {shapes[INNER]})"
    yield from _block_contradictions("enc_blocks", config.enc_blocks, "encoder.enc_blocks.{}.c2.weight", shapes)
    yield from _block_contradictions("dec_blocks", config.dec_blocks, "decoder.dec_blocks.{}.resnet.c2.weight", shapes)
    biases = _bias_resolutions(shapes)
    if biases != config.bias_resolutions:
        explained = {layer.resolution for layer in config.decoder}.issuperset(biases)
        flag = "no_bias_above" if explained else "dec_blocks"
        yield (
            f"--{flag} {flags.get(flag)} needs decoder.bias_xs at resolutions {config.bias_resolutions}, but the "
            f"checkpoint has them at {biases}"
        )


def _block_contradictions(flag: BlocksField, text: str, key_of: str, shapes: Shapes) -> Iterator[str]:
    """Yields what the shapes contradict in a string of blocks: their number, and the kernel sizes at resolutions 1 and
    2."""
    layers, depth = parse_blocks(flag, text), _depths(shapes)[flag]
    if len(layers) != depth:
        yield f"--{flag} {text} lists {len(layers)} blocks, but the checkpoint has {depth}"
    for index, (resolution, _) in enumerate(layers):
        shape, side = shapes.get(key := key_of.format(index), ()), kernel_size(resolution)
        if shape[2:] and shape[2:] != (side, side):
            yield (
                f"--{flag} {text} puts block {index} at resolution {resolution}, whose kernels are {side} x {side}, "
                f"but {key} is {shape}"
            )


def _all_flags(given: Mapping[str, str], shapes: Shapes, name: str) -> dict[str, str]:
    """The flags given, beside those of the set that they name, or that the shapes tell."""
    for flag, value in given.items():
        if (flag, value) in _REFUSED or (flag == "custom_width_str" and value):
            raise ValueError(
                f"model flags: --{flag} {value}: in ffhq1024 the width differs by resolution, which cannot be read; "
                "expected a VDVAE with one width, as ffhq256"
            )
    if "hps" in given:
        if given["hps"] not in _SETS:
            raise ValueError(f"model flags: --hps {given['hps']}; expected one of {', '.join(_SETS)}")
        return {**_SETS[given["hps"]], **given}
    whole = {"enc_blocks", "dec_blocks", "dataset"}
    flags = {**({} if whole <= given.keys() else _recognised(shapes)), **given}
    if absent := sorted(whole - flags.keys()):
        blocks = " and ".join(f"{depth} {flag}" for flag, depth in _depths(shapes).items())
        raise ValueError(
            f"{name}: a VDVAE of width {shapes[WIDTH][0]} with {blocks}, which is none of the published ones; give the "
            f"flags that it was trained with as --model-flags: {', '.join(f'--{flag}' for flag in absent)}"
        )
    return flags


def _recognised(shapes: Shapes) -> dict[str, str]:
    """Flags of the published network with the same width and numbers of blocks; empty where there is none."""
    for flags in _SETS.values():
        depths = {flag: len(parse_blocks(flag, flags[flag])) for flag in _BLOCK_FLAGS}
        if (int(flags["width"]), depths) == (shapes[WIDTH][0], _depths(shapes)):
            return flags
    return {}


def _depths(shapes: Shapes) -> dict[str, int]:
    """Numbers of blocks in a checkpoint, by the flag that lists them."""
    found = {match.groups() for match in map(_BLOCK.match, shapes) if match}
    encoder = sum(half == "encoder.enc_blocks" for half, _ in found)
    return {"enc_blocks": encoder, "dec_blocks": len(found) - encoder}


def _bias_resolutions(shapes: Shapes) -> list[int]:
    """Resolutions at which the decoder's state starts from learnt values."""
    return sorted(shape[-1] for key, shape in shapes.items() if _BIAS.fullmatch(key) and shape)


def _integer(flag: str, flags: Mapping[str, str], default: int) -> int:
    text = flags.get(flag, str(default))
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError(f"--{flag} {text}; expected an integer")
    return int(text)


def _number(flag: str, text: str) -> float:
    if not re.fullmatch(r"[0-9]{0,9}\.?[0-9]{1,9}", text):
        raise ValueError(f"model flags: --{flag} {text}; expected a number")
    return float(text)
