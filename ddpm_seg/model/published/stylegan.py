"""The first StyleGAN from the files of DatasetGAN's code."""

from __future__ import annotations

import io
import re
import zipfile

import numpy as np
import torch
from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.networks.style.stylegan import StyleGANConfig
from ddpm_seg.model.networks.style.stylegan2_generator import map_sides
from ddpm_seg.model.networks.style.stylegan_generator import StyleGAN, blur_kernel
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.loading import Loaded
from ddpm_seg.model.published.state_dicts import State, check_shapes, read_checkpoint, reason, state_dict, usable
from ddpm_seg.model.published.stylegan2 import MEAN_LATENTS, SEED, add_noises
from ddpm_seg.model.shapes import shapes_of, some

MOST_BYTES = 2**24
"""Largest size of a file with the mean code, in bytes; a published one has 37 kB."""


def load(config: ConvertConfig, image_size: int | None) -> Loaded:
    """The generator of --stylegan; see `published.loading`."""
    assert config.stylegan is not None
    network, weights, notes = load_stylegan(config.stylegan, config.avg_latent, config.image_size or image_size)
    return Loaded(network=network, weights=weights, provenance=notes)


def load_stylegan(
    uri: str, avg_latent: str | None = None, image_size: int | None = None
) -> tuple[StyleGANConfig, State, dict[str, str]]:
    """A generator in a state dict of DatasetGAN's: what it is, its tensors, and how those came about that it lacks.

    `avg_latent`: a .npy file of the mean code of each row. `image_size`: side of the images wanted, by default the
    generator's own. Raises ValueError if a file is damaged or refused, or another network's.
    """
    name = storage.redact(uri)
    state = _without_kernels(state_dict(read_checkpoint(uri), name), name)
    notes: dict[str, str] = {}
    channels, mapping = _channels(state, name), _mapping(state, name)
    if add_noises(state, map_sides(channels)):
        notes["noise"] = f"drawn from seed {SEED}"
    try:
        config = StyleGANConfig(image_size=image_size or map_sides(channels)[-1], channels=channels, mapping=mapping)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    rows = 2 * len(channels)
    state["avg_latent"] = torch.zeros(rows, mapping[-1])
    check_shapes(shapes_of(state), weight_shapes(config), f"{name}: not a StyleGAN")
    state = usable(state, name)
    if avg_latent is not None:
        state["avg_latent"] = _read_mean(avg_latent, rows, mapping[-1])
    else:
        state["avg_latent"] = _mean_code(config, state).expand(rows, -1).contiguous()
        notes["avg_latent"] = f"mean over {MEAN_LATENTS} latents of seed {SEED}"
    return config, state, notes


def _without_kernels(state: State, name: str) -> State:
    expected = blur_kernel(torch.empty(0))[None, None]
    for key in [key for key in state if key.endswith(".intermediate.kernel")]:
        kernel = state.pop(key).float()
        if kernel.shape != expected.shape or not (kernel - expected).abs().max() < 1e-5:
            raise ValueError(f"{name}: {key} is another filter than [1, 2, 1]; only that one is read")
    return state


def _channels(state: State, name: str) -> tuple[int, ...]:
    """Channels at 4 x 4, 8 x 8, ... pixels."""
    pattern = re.compile(r"g_synthesis\.blocks\.(\d+)x\d+\.epi1\.top_epi\.noise\.weight")
    found = {int(match[1]): key for key in state if (match := pattern.fullmatch(key))}
    sides = sorted(found)
    if not sides or sides != [4 * 2**level for level in range(len(sides))]:
        raise ValueError(
            f"{name}: not DatasetGAN's StyleGAN: expected g_synthesis.blocks.4x4 and on, got {some(state)}"
        )
    return tuple(len(state[found[side]].flatten()) for side in sides)


def _mapping(state: State, name: str) -> tuple[int, ...]:
    layers = sum(re.fullmatch(r"g_mapping\.dense\d+\.weight", key) is not None for key in state)
    weights = [state.get(f"g_mapping.dense{index}.weight") for index in range(layers)]
    shapes = [tuple(weight.shape) for weight in weights if weight is not None and weight.ndim == 2]
    if not shapes or len(shapes) < layers:
        raise ValueError(
            f"{name}: not DatasetGAN's StyleGAN: expected g_mapping.dense0.weight and on, got {some(state)}"
        )
    return (shapes[0][1], *(shape[0] for shape in shapes))


def _mean_code(config: StyleGANConfig, state: State) -> Tensor:
    network: StyleGAN = config.build()
    network.load_state_dict(state)
    latents = np.random.default_rng(SEED).standard_normal((MEAN_LATENTS, config.mapping[0]), dtype=np.float32)
    with torch.inference_mode():
        return network.g_mapping.float()(torch.from_numpy(latents)).mean(dim=0)


def _read_mean(uri: str, rows: int, width: int) -> Tensor:
    """(rows, width) float32: published files have 18 rows, of which smaller generators use the first."""
    name = storage.redact(uri)
    try:
        mean = np.load(io.BytesIO(storage.read_bytes(uri, max_bytes=MOST_BYTES)), allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{name}: not a .npy file of numbers ({reason(error)})") from None
    if not isinstance(mean, np.ndarray) or mean.dtype.kind != "f" or mean.ndim != 2:
        raise ValueError(f"{name}: expected an array of floats, a mean code of {width} numbers in each row")
    if mean.shape[1] != width or len(mean) < rows or not np.isfinite(mean).all():
        raise ValueError(f"{name}: it is {mean.shape}; expected at least {rows} rows of {width} finite numbers")
    return torch.from_numpy(mean[:rows].astype(np.float32))
