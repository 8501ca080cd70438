"""The generator in NVlabs' pickles of StyleGAN2, its tensors under rosinality's names."""

# Layouts: O channels leaving and I entering a convolution of k x k, W code width, r side of a noise input. TensorFlow's
# convolutions are (k, k, I, O), and its matrices are transposed.

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm_seg.model.json_values import shown
from ddpm_seg.model.networks.style.stylegan2_layers import BLUR_TAPS, MAPPING_RATE, blur_kernel
from ddpm_seg.model.published.nvlabs.pickle import Array, Module
from ddpm_seg.model.published.state_dicts import State, describe
from ddpm_seg.model.shapes import some

Change = Callable[[Tensor], Tensor]
Names = dict[str, tuple[str, Change]]
"""rosinality's name of each tensor by its name in the file, and what makes the one of the other."""

MOST_LEVELS = 16
"""Resolutions, beyond any that this package takes."""


@dataclass(frozen=True)
class Generator:
    """A generator as stored in its file."""

    weights: State
    conv_clamp: float | None


def generator_of(content: Any, name: str) -> Generator:
    """That of the moving average of the weights. Raises ValueError, with the file's `name`, for what is none."""
    if isinstance(content, tuple | list) and len(content) == 3 and isinstance(content[2], Module):
        return _of_tensorflow(content[2], name)
    if isinstance(content, Mapping) and isinstance(content.get("G_ema"), Module):
        return _of_pytorch(content["G_ema"], name)
    found = describe(content) if isinstance(content, Mapping) else f"a {type(content).__name__}"
    raise ValueError(f"{name}: expected NVlabs' networks, a dictionary with G_ema or a triple (G, D, Gs), got {found}")


def _of_pytorch(generator: Module, name: str) -> Generator:
    modules = dict(_modules(generator, name))
    settings = modules[""]
    keywords = _dictionary(settings, "_init_kwargs")
    _refuse_labels(settings.get("c_dim", keywords.get("c_dim", 0)), "c_dim", name)
    tensors: State = {}
    for path, state in modules.items():
        for kind in ("_parameters", "_buffers"):
            for key, value in _dictionary(state, kind).items():
                if value is not None:
                    tensors[f"{path}{key}"] = _tensor(value, f"{path}{key}", name)
    if any(key.startswith("synthesis.input.") for key in tensors):
        raise ValueError(f"{name}: a StyleGAN3; only StyleGAN2 is read")
    for path, state in modules.items():
        _refuse_another_architecture(state.get("architecture", "skip"), name)
        if path.startswith("mapping.fc"):
            _refuse_another_rate(state.get("bias_gain", MAPPING_RATE), f"{path}bias_gain", name)
    for key in [key for key in tensors if key.endswith("resample_filter")]:
        _refuse_another_filter(tensors.pop(key).float(), key, name)
    clamps = [state["conv_clamp"] for state in modules.values() if "conv_clamp" in state] or [None]
    if any(clamp != clamps[0] or not isinstance(clamp, int | float | None) for clamp in clamps):
        raise ValueError(f"{name}: conv_clamp is {shown(clamps)}; expected one number in all layers, or none")
    levels = _levels(tensors, r"synthesis\.b(\d+)\.", name)
    weights = _renamed(tensors, _pytorch_names(levels, tensors), name)
    return Generator(weights, None if clamps[0] is None else float(clamps[0]))


def _of_tensorflow(generator: Module, name: str) -> Generator:
    settings = _dictionary(generator.content, "static_kwargs")
    _refuse_labels(settings.get("label_size", 0), "label_size", name)
    _refuse_another_architecture(settings.get("architecture", "skip"), name)
    if list(settings.get("resample_kernel") or BLUR_TAPS) != list(BLUR_TAPS):
        raise ValueError(f"{name}: resample_kernel is {shown(settings['resample_kernel'])}, expected [1, 3, 3, 1]")
    _refuse_another_rate(settings.get("mapping_lrmul", MAPPING_RATE), "mapping_lrmul", name)
    tensors = dict(_variables(generator, name))
    levels = _levels(tensors, r"synthesis/(\d+)x\d+/", name)
    return Generator(_renamed(tensors, _tensorflow_names(levels, tensors), name), None)


def _modules(module: Module, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The state of the module and of all in it, by their paths, which end with a dot."""
    level, seen = [("", module)], {id(module)}
    while level:
        path, module = level.pop()
        if not isinstance(module.content, dict):
            raise ValueError(f"{name}: the module {path or 'G_ema'} has no state")
        yield path, module.content
        for key, inner in _dictionary(module.content, "_modules").items():
            if not isinstance(inner, Module) or id(inner) in seen:
                raise ValueError(f"{name}: {path}{key} is {type(inner).__name__}, expected a module of its own")
            seen.add(id(inner))
            level.append((f"{path}{key}.", inner))


def _variables(network: Module, name: str) -> Iterator[tuple[str, Tensor]]:
    """The arrays of a TensorFlow network and of its components, by name."""
    components = _dictionary(network.content, "components")
    for prefix, part in [("", network), *((f"{key}/", component) for key, component in components.items())]:
        if not isinstance(part, Module) or not isinstance(part.content, dict):
            raise ValueError(f"{name}: {prefix or 'Gs'} is {type(part).__name__}, expected a network")
        for entry in part.content.get("variables") or ():
            if not isinstance(entry, tuple) or len(entry) != 2:
                raise ValueError(f"{name}: a variable of {prefix or 'Gs'} is not a pair of a name and an array")
            if entry[0] != "lod":  # of the training
                yield f"{prefix}{entry[0]}", _tensor(entry[1], f"{prefix}{entry[0]}", name)


def _pytorch_names(levels: int, found: State) -> Names:
    names: Names = {
        "mapping.w_avg": ("latent_avg", _same),
        "synthesis.b4.const": ("input.input", lambda x: x[None]),
    }
    for index in _dense_layers(found, r"mapping\.fc(\d+)\."):
        for kind in ("weight", "bias"):
            names[f"mapping.fc{index}.{kind}"] = (f"style.{index + 1}.{kind}", _same)
    for resolution, ours, noise, position in _layers(levels):
        theirs = f"synthesis.b{resolution}.{('conv0', 'conv1', 'torgb')[position]}"
        names |= {
            f"{theirs}.weight": (f"{ours}.conv.weight", lambda x: x[None]),
            f"{theirs}.affine.weight": (f"{ours}.conv.modulation.weight", _same),
            f"{theirs}.affine.bias": (f"{ours}.conv.modulation.bias", _same),
            f"{theirs}.bias": _bias(ours, noise),
        }
        if noise is not None:
            names[f"{theirs}.noise_strength"] = (f"{ours}.noise.weight", lambda x: x.reshape(1))
            names[f"{theirs}.noise_const"] = (f"noises.noise_{noise}", lambda x: x[None, None])
    return names


def _tensorflow_names(levels: int, found: State) -> Names:
    names: Names = {"dlatent_avg": ("latent_avg", _same), "synthesis/4x4/Const/const": ("input.input", _same)}
    for index in _dense_layers(found, r"mapping/Dense(\d+)/"):
        names[f"mapping/Dense{index}/weight"] = (f"style.{index + 1}.weight", lambda x: x.T)
        names[f"mapping/Dense{index}/bias"] = (f"style.{index + 1}.bias", _same)
    for resolution, ours, noise, position in _layers(levels):
        kind = "Conv" if resolution == 4 and position == 1 else ("Conv0_up", "Conv1", "ToRGB")[position]
        theirs = f"synthesis/{resolution}x{resolution}/{kind}"
        names |= {
            f"{theirs}/weight": (f"{ours}.conv.weight", _flipped_kernel if position == 0 else _kernel),
            f"{theirs}/mod_weight": (f"{ours}.conv.modulation.weight", lambda x: x.T),
            f"{theirs}/mod_bias": (f"{ours}.conv.modulation.bias", lambda x: x + 1),
            f"{theirs}/bias": _bias(ours, noise),
        }
        if noise is not None:
            names[f"{theirs}/noise_strength"] = (f"{ours}.noise.weight", lambda x: x.reshape(1))
            names[f"synthesis/noise{noise}"] = (f"noises.noise_{noise}", _same)
    return names


def _layers(levels: int) -> Iterator[tuple[int, str, int | None, int]]:
    """Every layer: its resolution, rosinality's name, its noise input, and 0 where it enlarges, 1 after, 2 to RGB."""
    for level in range(levels):
        resolution = 4 * 2**level
        if level > 0:
            yield resolution, f"convs.{2 * level - 2}", 2 * level - 1, 0
        yield resolution, f"convs.{2 * level - 1}" if level else "conv1", 2 * level, 1
        yield resolution, f"to_rgbs.{level - 1}" if level else "to_rgb1", None, 2


def _renamed(tensors: State, names: Names, name: str) -> State:
    if missing := names.keys() - tensors.keys():
        raise ValueError(f"{name}: not a StyleGAN2 of the skip architecture: it lacks {some(missing)}")
    if unknown := tensors.keys() - names.keys():
        raise ValueError(f"{name}: not a StyleGAN2 of the skip architecture: it has {some(unknown)}")
    try:
        return {ours: change(tensors[theirs]).contiguous() for theirs, (ours, change) in names.items()}
    except (RuntimeError, IndexError) as error:
        raise ValueError(f"{name}: a tensor of the wrong shape: {error}") from None


def _same(x: Tensor) -> Tensor:
    return x


def _kernel(x: Tensor) -> Tensor:
    """(k, k, I, O) to (1, O, I, k, k)."""
    return x.permute(3, 2, 0, 1)[None]


def _flipped_kernel(x: Tensor) -> Tensor:
    """The same; TensorFlow turns a kernel around where it enlarges."""
    return _kernel(x.flip(0, 1))


def _bias(ours: str, noise: int | None) -> tuple[str, Change]:
    if noise is None:
        return f"{ours}.bias", lambda x: x.reshape(1, -1, 1, 1)
    return f"{ours}.activate.bias", _same


def _dense_layers(found: State, pattern: str) -> list[int]:
    """Numbers of the mapping network's layers."""
    return sorted({int(match[1]) for key in found if (match := re.match(pattern, key))})


def _levels(found: State, pattern: str, name: str) -> int:
    """How many resolutions there are: 4 x 4, 8 x 8, ... pixels."""
    sides = sorted({int(match[1]) for key in found if (match := re.match(pattern, key))})
    if not sides or len(sides) > MOST_LEVELS or sides != [4 * 2**level for level in range(len(sides))]:
        raise ValueError(f"{name}: not a StyleGAN2: expected layers of 4, 8, 16, ... pixels, got {shown(sides)}")
    return len(sides)


def _tensor(value: Any, key: str, name: str) -> Tensor:
    found = value.value if isinstance(value, Array) else None
    if isinstance(value, float):  # as numpy has an array without dimensions
        return torch.tensor(value)
    if isinstance(found, np.ndarray):
        found = torch.from_numpy(found.astype(found.dtype.newbyteorder("="), order="C"))
    if found is None:
        raise ValueError(f"{name}: {key} is {type(value).__name__}, expected a tensor")
    return found


def _dictionary(state: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = state.get(key) if isinstance(state, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _refuse_labels(classes: Any, key: str, name: str) -> None:
    if classes != 0:
        raise ValueError(
            f"{name}: {key} is {shown(classes)}: it draws by class, and only networks without classes are read"
        )


def _refuse_another_architecture(architecture: Any, name: str) -> None:
    if architecture != "skip":
        raise ValueError(f"{name}: its architecture is {shown(architecture)}; only 'skip' is read")


def _refuse_another_rate(rate: Any, key: str, name: str) -> None:
    if not isinstance(rate, float) or not math.isclose(rate, MAPPING_RATE, rel_tol=1e-4):
        raise ValueError(f"{name}: {key} is {shown(rate)}, expected {MAPPING_RATE}")


def _refuse_another_filter(found: Tensor, key: str, name: str) -> None:
    expected = blur_kernel(torch.empty(0)) / 4
    if found.shape != expected.shape or not (found - expected).abs().max() < 1e-5:
        raise ValueError(f"{name}: {key} is another filter than [1, 3, 3, 1]; only that one is read")
