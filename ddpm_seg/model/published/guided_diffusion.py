"""Reads checkpoints of openai/guided-diffusion, the DDPMs of ddpm-segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ddpm_seg import storage
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.networks.diffusion.ddpm import DDPMConfig
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.flags import configs_from_flags, contradictions, split_model_flags
from ddpm_seg.model.published.loading import Loaded, unwrapped
from ddpm_seg.model.published.names import LSUN_FFHQ_256
from ddpm_seg.model.published.state_dicts import State, check_shapes, read_checkpoint, state_dict, usable
from ddpm_seg.model.shapes import shapes_of, some

_LANDMARKS = ("time_embed.0.weight", "input_blocks.0.0.weight", "out.2.weight")


def load(config: ConvertConfig, image_size: int | None) -> Loaded:
    """The DDPM of --ddpm with --model-flags; see `published.loading`."""
    assert config.ddpm is not None
    flags = split_model_flags(LSUN_FFHQ_256 if config.model_flags is None else config.model_flags)
    if image_size is not None:
        flags.setdefault("image_size", str(image_size))  # as the published train_interpreter.py takes it
    unet, diffusion = configs_from_flags(flags)
    network = DDPMConfig(unet=unet, diffusion=diffusion)
    return Loaded(network=network, weights=load_unet(config.ddpm, unet), provenance={"model_flags": flags})


def load_unet(uri: str, config: UNetConfig) -> State:
    """Reads a guided-diffusion state dict and checks it against the network that `config` describes.

    Weights keep float16 or float32; other floating types become float32. Raises ValueError if a file is damaged,
    refused or does not match; if its shapes contradict a flag, the message names the flag, its value and what the
    shapes show.
    """
    name = storage.redact(uri)
    state = state_dict(_one_network(read_checkpoint(uri), name), name)
    shapes = shapes_of(state)
    if absent := [key for key in _LANDMARKS if key not in shapes]:
        raise ValueError(
            f"{name}: not a guided-diffusion network: it has no {absent[0]}, but {some(shapes)}; "
            "give its plain state dict"
        )
    if shapes["input_blocks.0.0.weight"][1:2] != (3,):
        raise ValueError(
            f"{name}: input_blocks.0.0.weight is {shapes['input_blocks.0.0.weight']}; expected a network that takes "
            "only the 3 channels of an image (this may be a super-resolution model)"
        )
    if found := contradictions(config, shapes):
        raise ValueError(f"{name}: the model flags are not this checkpoint's: {'; '.join(found)}")
    check_shapes(shapes, weight_shapes(config), f"{name}: not the network that the model flags describe")
    return usable(state, name)


def _one_network(content: Any, name: str) -> Any:
    """The state dict in a checkpoint. Raises ValueError if beside it are averages of the weights: both label, but not
    equally well, and the file does not say which is meant."""
    found = unwrapped(content)
    averages = [] if found is content else [key for key in content if "ema" in str(key).lower().split("_")]
    if weights := [key for key in averages if isinstance(content[key], Mapping)]:
        raise ValueError(
            f"{name} holds the network twice, once as {weights[0]!r} (averaged over its training, as published DDPMs "
            "are); save the one to use as a plain state dict"
        )
    return found
