"""Reads e4e and pSp checkpoints: the encoder alone, or with the generator for its codes."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.networks.style.gan_encoder import GANEncoderConfig
from ddpm_seg.model.networks.style.gan_inversion import Codes, GANInversionConfig
from ddpm_seg.model.networks.style.stylegan2_generator import map_sides
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.loading import Loaded
from ddpm_seg.model.published.state_dicts import State, check_shapes, describe, read_checkpoint, state_dict, usable
from ddpm_seg.model.published.stylegan2 import add_noises, generator_channels, without_kernels
from ddpm_seg.model.shapes import shapes_of, some

IMAGE_SIZE = 256
ENCODER_TYPES: dict[str, Codes] = {"Encoder4Editing": "e4e", "GradualStyleEncoder": "psp"}
"""Names in a checkpoint's options; the tensors of both encoders have the same names."""
_LANDMARKS = ("input_layer.0.weight", "body.23.res_layer.3.weight", "latlayer1.weight", "latlayer2.weight")


def load(config: ConvertConfig, image_size: int | None) -> Loaded:
    """The networks of --gan-encoder and --gan-inversion; see `published.loading`."""
    size = config.image_size or image_size or IMAGE_SIZE
    if config.gan_encoder is not None:
        encoder, weights = load_gan_encoder(config.gan_encoder, size)
        return Loaded(network=encoder, weights=weights)
    assert config.gan_inversion is not None
    inversion, weights, notes = load_gan_inversion(config.gan_inversion, size, config.encoder_type)
    return Loaded(network=inversion, weights=weights, provenance=notes)


@dataclass(frozen=True)
class _Checkpoint:
    name: str
    encoder: State
    decoder: State
    latent_avg: Tensor | None
    options: Mapping[str, Any]

    @property
    def width(self) -> int:
        return self.encoder["input_layer.0.weight"].shape[0]


def load_gan_encoder(uri: str, image_size: int = IMAGE_SIZE) -> tuple[GANEncoderConfig, State]:
    """The encoder of an e4e or pSp checkpoint without its style heads, and its configuration.

    Raises ValueError if the file is damaged, refused, or another network's.
    """
    checkpoint = _read(uri)
    state = {key: value for key, value in checkpoint.encoder.items() if not key.startswith("styles.")}
    config = GANEncoderConfig(image_size=image_size, width=checkpoint.width)
    check_shapes(shapes_of(state), weight_shapes(config), f"{checkpoint.name}: not the encoder of e4e or pSp")
    return config, usable(state, checkpoint.name)


def load_gan_inversion(
    uri: str, image_size: int = IMAGE_SIZE, encoder_type: Codes | None = None
) -> tuple[GANInversionConfig, State, dict[str, str]]:
    """The encoder of an e4e or pSp checkpoint and its generator's layers: configuration, tensors, and how those that
    the file lacks were made.

    `encoder_type` is needed if the checkpoint does not state it. Raises ValueError if the file is damaged, refused, or
    another network's.
    """
    checkpoint, notes = _read(uri), {}
    name = checkpoint.name
    decoder = {
        key: value
        for key, value in without_kernels(checkpoint.decoder, name).items()
        if not key.startswith(("style.", "to_rgb"))  # codes come from the encoder, and the picture is not needed
    }
    channels = generator_channels(decoder, name)
    if add_noises(decoder, map_sides(channels)[1:]):
        notes["noise"] = "drawn from seed 0"
    _check_size(checkpoint, 2 ** (len(channels) + 1))
    config = GANInversionConfig(
        image_size=image_size,
        codes=_codes(checkpoint, encoder_type),
        width=checkpoint.width,
        channels=channels,
    )
    rows, code_width = 2 * len(channels), 8 * checkpoint.width
    state = {f"encoder.{key}": value for key, value in checkpoint.encoder.items()}
    state |= {f"decoder.{key}": value for key, value in decoder.items()}
    state["latent_avg"] = _latent_avg(checkpoint, rows, code_width)
    check_shapes(shapes_of(state), weight_shapes(config), f"{name}: not e4e or pSp with its generator")
    return config, usable(state, name), notes


def _read(uri: str) -> _Checkpoint:
    name, content = storage.redact(uri), read_checkpoint(uri)
    if not isinstance(content, Mapping) or not isinstance(content.get("state_dict"), Mapping):
        raise ValueError(f"{name}: expected an e4e or pSp checkpoint, with a state_dict, got {describe(content)}")
    options = content.get("opts", {})
    options = vars(options) if isinstance(options, argparse.Namespace) else options
    if not isinstance(options, Mapping):
        raise ValueError(f"{name}: opts is {type(options).__name__}, expected the options by name")
    _refuse_another_encoder(options, name)
    state = state_dict(content["state_dict"], name)
    encoder, decoder = _part(state, "encoder."), _part(state, "decoder.")
    if missing := [key for key in _LANDMARKS if key not in encoder]:
        raise ValueError(f"{name}: not an e4e or pSp checkpoint: it has no encoder.{missing[0]}, but {some(state)}")
    if unknown := [key for key in state if not key.startswith(("encoder.", "decoder."))]:
        raise ValueError(f"{name}: its state_dict has {some(unknown)}; expected encoder.* and decoder.* alone")
    taken = encoder["input_layer.0.weight"].shape
    if len(taken) != 4 or taken[1] != 3:
        raise ValueError(
            f"{name}: encoder.input_layer.0.weight is {tuple(taken)}; expected an encoder of the 3 channels of an "
            "image (ReStyle's take 6, pSp's of sketches and of segmentations others)"
        )
    mean = content.get("latent_avg")
    return _Checkpoint(name, encoder, decoder, mean if isinstance(mean, Tensor) else None, options)


def _part(state: State, prefix: str) -> State:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _refuse_another_encoder(options: Mapping[str, Any], name: str) -> None:
    found = options.get("encoder_type")
    if found is not None and found not in ENCODER_TYPES:
        raise ValueError(f"{name}: its encoder is a {found}; expected one of {', '.join(ENCODER_TYPES)}")


def _codes(checkpoint: _Checkpoint, given: Codes | None) -> Codes:
    found = checkpoint.options.get("encoder_type")
    if found is None:
        if given is None:
            flags = " or ".join(f"--encoder-type {codes}" for codes in get_args(Codes))
            raise ValueError(
                f"{checkpoint.name}: its opts do not say which encoder_type it is, and the tensors of e4e and pSp have "
                f"the same names; add {flags}"
            )
        return given
    if given is not None and given != ENCODER_TYPES[found]:
        raise ValueError(f"{checkpoint.name}: its opts say {found}; leave out --encoder-type {given}")
    return ENCODER_TYPES[found]


def _check_size(checkpoint: _Checkpoint, side: int) -> None:
    """Checks that tensors, options and the number of style heads agree on the generator's size."""
    for option in ("stylegan_size", "output_size"):  # e4e's, pSp's
        stated = checkpoint.options.get(option)
        if stated is not None and stated != side:
            raise ValueError(f"{checkpoint.name}: its opts say {option} {stated}, but its decoder has {side} pixels")
    heads = len({match[1] for key in checkpoint.encoder if (match := re.match(r"styles\.(\d+)\.", key))})
    if heads != 2 * (side.bit_length() - 1) - 2:
        raise ValueError(
            f"{checkpoint.name}: its encoder has {heads} style heads, but a decoder of {side} pixels takes "
            f"{2 * (side.bit_length() - 1) - 2} codes"
        )


def _latent_avg(checkpoint: _Checkpoint, rows: int, width: int) -> Tensor:
    """(rows, width): the mean code, added to the codes."""
    if checkpoint.options.get("start_from_latent_avg") is False:
        return torch.zeros(rows, width)
    mean = checkpoint.latent_avg
    if mean is None:
        raise ValueError(f"{checkpoint.name}: it has no latent_avg, which its codes start from")
    if mean.shape in ((width,), (1, width)):
        mean = mean.reshape(1, width).expand(rows, width)
    return mean.contiguous()
