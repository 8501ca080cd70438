"""Reads StyleGAN2 from files of rosinality's code, which e4e and pSp use too, and from NVlabs' pickles."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.networks.style.stylegan2 import StyleGAN2Config
from ddpm_seg.model.networks.style.stylegan2_generator import map_sides
from ddpm_seg.model.networks.style.stylegan2_layers import Mapping as MappingNetwork
from ddpm_seg.model.networks.style.stylegan2_layers import blur_kernel
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.loading import Loaded
from ddpm_seg.model.published.nvlabs.pickle import read_nvlabs_pickle
from ddpm_seg.model.published.nvlabs.stylegan2 import Generator, generator_of
from ddpm_seg.model.published.state_dicts import (
    State,
    check_shapes,
    checkpoint_of,
    describe,
    is_torch_file,
    read_checkpoint,
    read_file,
    state_dict,
    usable,
)
from ddpm_seg.model.shapes import Shapes, shapes_of, some

MEAN_LATENTS = 10_000
"""Number of latents to average codes over, if a file lacks the mean code."""
SEED = 0
"""Seed of these latents, and of noise inputs that a file lacks."""

_KERNEL = re.compile(r"convs\.\d+\.conv\.blur\.kernel|to_rgbs\.\d+\.upsample\.kernel")


def load(config: ConvertConfig, image_size: int | None) -> Loaded:
    """The generator of --stylegan2; see `published.loading`."""
    assert config.stylegan2 is not None
    network, weights, notes = load_stylegan2(config.stylegan2, config.image_size or image_size)
    return Loaded(network=network, weights=weights, provenance=notes)


def load_stylegan2(uri: str, image_size: int | None = None) -> tuple[StyleGAN2Config, State, dict[str, str]]:
    """A generator in a file of rosinality's code or a pickle of NVlabs' (stylegan2-ada-pytorch, StyleGAN3's, and the
    TensorFlow StyleGAN2): configuration, tensors, and how those that the file lacks were made.

    `image_size` is the side of the images wanted, by default the generator's own. Raises ValueError if the file is
    damaged, refused, or another network's.
    """
    name = storage.redact(uri)
    found = _generator(uri, name)
    state, notes = dict(found.weights), {}
    channels, mapping = generator_channels(state, name), _mapping_widths(shapes_of(state), name)
    side = map_sides(channels)[-1]
    if add_noises(state, map_sides(channels)[1:]):
        notes["noise"] = f"drawn from seed {SEED}"
    if "latent_avg" not in state:
        state["latent_avg"] = _mean_code(state, mapping)
        notes["latent_avg"] = f"mean over {MEAN_LATENTS} latents of seed {SEED}"
    try:
        config = StyleGAN2Config(
            image_size=image_size or side, channels=channels, mapping=mapping, conv_clamp=found.conv_clamp
        )
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    check_shapes(shapes_of(state), weight_shapes(config), f"{name}: not a StyleGAN2 of the skip architecture")
    return config, usable(state, name), notes


def _generator(uri: str, name: str) -> Generator:
    """The generator in the file, under rosinality's names and without the kernels."""
    uri = storage.normalize(uri)
    regular = storage.is_local(uri) and Path(uri).is_file()  # a pipe can be read once
    with Path(uri).open("rb") if regular else io.BytesIO(read_file(uri, name)) as file:
        if not is_torch_file(file):
            return generator_of(read_nvlabs_pickle(file, name), name)
        content = read_checkpoint(uri) if regular else checkpoint_of(file.read(), name)
    return Generator(without_kernels(_rosinality_state(content, name), name), None)


def _rosinality_state(content: Any, name: str) -> State:
    """`g_ema` with its `latent_avg`, or a generator's plain state dict."""
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping) and "opts" in content:
        raise ValueError(f"{name} is an e4e or pSp checkpoint; use --gan-inversion or --gan-encoder")
    weights = content.get("g_ema", content) if isinstance(content, Mapping) else content
    state = dict(state_dict(weights, name))
    if "conv1.conv.modulation.weight" not in state:
        raise ValueError(
            f"{name}: not a StyleGAN2: expected a generator under g_ema, got {describe(content)}; give the .pt file of "
            "rosinality's code or a .pkl file of NVlabs'"
        )
    mean = content.get("latent_avg")
    if isinstance(mean, Tensor) and mean.ndim <= 2:
        state["latent_avg"] = mean.flatten()
    return state


def without_kernels(state: State, name: str) -> State:
    """The tensors that training changes. Raises ValueError for another blur than the published one."""
    expected = blur_kernel(torch.empty(0))
    for key in filter(_KERNEL.fullmatch, state):
        kernel = state[key].float()
        if kernel.shape != expected.shape or not (kernel - expected).abs().max() < 1e-5:
            raise ValueError(f"{name}: {key} is another filter than [1, 3, 3, 1]; only that one is read")
    return {key: value for key, value in state.items() if not _KERNEL.fullmatch(key)}


def generator_channels(state: State, name: str) -> tuple[int, ...]:
    """Channels at 4 x 4, 8 x 8, ... pixels, read from the shapes. Raises ValueError if it is not a generator."""
    shapes = shapes_of(state)
    layers = sum(re.fullmatch(r"convs\.\d+\.conv\.weight", key) is not None for key in shapes)
    keys = ["conv1.conv.weight", *(f"convs.{index}.conv.weight" for index in range(1, layers, 2))]
    for key in keys:
        if len(shapes.get(key, ())) != 5:
            raise ValueError(
                f"{name}: not a StyleGAN2: {key} is {shapes.get(key, 'missing')}, expected (1, O, I, 3, 3)"
            )
    return tuple(shapes[key][1] for key in keys)


def add_noises(state: State, sides: Sequence[int]) -> bool:
    """Draws the noise inputs if `state` has none, as in rosinality's first files. Returns whether it did."""
    if any(key.startswith("noises.") for key in state):
        return False
    random = np.random.default_rng(SEED)
    for number, side in enumerate(sides):
        noise = random.standard_normal((1, 1, side, side), dtype=np.float32)
        state[f"noises.noise_{number}"] = torch.from_numpy(noise)
    return True


def _mapping_widths(shapes: Shapes, name: str) -> tuple[int, ...]:
    layers = sum(re.fullmatch(r"style\.\d+\.weight", key) is not None for key in shapes)
    keys = [f"style.{index + 1}.weight" for index in range(layers)]
    if not keys or any(len(shapes.get(key, ())) != 2 for key in keys):
        raise ValueError(f"{name}: not a StyleGAN2: its mapping network has {some(shapes.keys() & set(keys))}")
    return (shapes[keys[0]][1], *(shapes[key][0] for key in keys))


def _mean_code(state: State, widths: tuple[int, ...]) -> Tensor:
    """The mean code, (W,) float32."""
    mapping = MappingNetwork(widths)
    mapping.load_state_dict({key.removeprefix("style."): state[key] for key in state if key.startswith("style.")})
    latents = np.random.default_rng(SEED).standard_normal((MEAN_LATENTS, widths[0]), dtype=np.float32)
    with torch.inference_mode():
        return mapping.float()(torch.from_numpy(latents)).mean(dim=0)
