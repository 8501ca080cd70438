"""Converts published checkpoints of networks and pixel classifiers to a bundle."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.checks import flag
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.ensemble import member_shapes
from ddpm_seg.model.networks.diffusion.ddpm import DDPMConfig
from ddpm_seg.model.published.convert_checks import chosen_checkpoint, refuse_beside_modelscope, refuse_beside_pair
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.experiment import Experiment, load_experiment, load_modelscope_configuration
from ddpm_seg.model.published.flags import configs_from_flags
from ddpm_seg.model.published.guided_diffusion import load_unet
from ddpm_seg.model.published.loading import load_network
from ddpm_seg.model.published.noise import torch_cpu_noise, torch_cuda_noise
from ddpm_seg.model.published.pair import load_pair
from ddpm_seg.model.published.state_dicts import (
    State,
    base_name,
    check_shapes,
    describe,
    read_checkpoint,
    reason,
    state_dict,
    usable,
)
from ddpm_seg.model.shapes import shapes_of

logger = logging.getLogger(__name__)


def convert(config: ConvertConfig) -> Bundle:
    """Reads the files that `config` names into a bundle, without writing it; without classifiers it holds only a
    network.

    Raises ValueError for files that are damaged, refused or contradict each other, FileNotFoundError for missing ones.
    """
    if config.modelscope is not None:
        refuse_beside_modelscope(config)
        return load_modelscope(config.modelscope)
    if config.pair is not None:
        refuse_beside_pair(config)
        return load_pair(*config.pair)
    checkpoint = chosen_checkpoint(config)
    experiment = None if config.experiment is None else load_experiment(config.experiment)
    if experiment is not None and experiment.model_type != checkpoint.flag:
        raise ValueError(
            f"{base_name(config.experiment or '')}: model_type {experiment.model_type!r}: these classifiers read the "
            f"network of {flag(experiment.model_type)}, but {flag(checkpoint.flag)} is given"
        )
    loaded = load_network(checkpoint, config, experiment.dim[0] if experiment else None)
    provenance: dict[str, Any] = {checkpoint.flag: base_name(getattr(config, checkpoint.flag)), **loaded.provenance}
    noise: Tensor | None = None
    if loaded.network.noise_shape:
        noise, provenance["noise"] = _noise(config, loaded.network.noise_shape)
    if config.experiment is not None:
        provenance["experiment"] = base_name(config.experiment)
    bundle = Bundle(network=loaded.network, weights=loaded.weights, noise=noise, provenance={"converted": provenance})
    if experiment is None or config.classifiers is None:
        return bundle
    return _with_classifiers(bundle, config.classifiers, experiment)


def load_modelscope(directory: str) -> Bundle:
    """The bundle of a ModelScope model folder. Its noise comes from the CPU generator with seed 0, as in its
    pipeline."""
    experiment, flags = load_modelscope_configuration(directory)
    flags.setdefault("image_size", experiment.dim[0])
    unet, diffusion = configs_from_flags(flags)
    provenance = {
        "modelscope": base_name(directory),
        "model_flags": flags,
        "noise": {"generator": "cpu", "seed": 0},
    }
    network = DDPMConfig(unet=unet, diffusion=diffusion)
    bundle = Bundle(
        network=network,
        weights=load_unet(storage.join(directory, "pytorch_model.pt"), unet),
        noise=torch_cpu_noise(0, network.noise_shape),
        provenance={"converted": provenance},
    )
    return _with_classifiers(bundle, storage.join(directory, experiment.category), experiment)


def _with_classifiers(bundle: Bundle, directory: str, experiment: Experiment) -> Bundle:
    """Adds the classifiers. Call it after reading the network: wrong model flags would make the experiment look
    wrong."""
    features, task = experiment.features(bundle.network), experiment.task()
    members = load_members(directory, experiment.model_num, dim=experiment.dim[2], num_classes=experiment.number_class)
    converted = {**bundle.provenance["converted"], "classifiers": [f"model_{i}.pth" for i in range(len(members))]}
    return replace(bundle, features=features, task=task, members=members, provenance={"converted": converted})


def load_members(directory: str, count: int, *, dim: int, num_classes: int) -> tuple[State, ...]:
    """`count` members from `model_0.pth` … in a folder, without the prefix `module.`. Raises ValueError naming the
    file."""
    members = tuple(
        _load_member(storage.join(directory, f"model_{index}.pth"), dim=dim, num_classes=num_classes)
        for index in range(count)
    )
    if storage.exists(storage.join(directory, f"model_{count}.pth")):
        logger.info("%s has more members than model_num: the first %d are used", storage.redact(directory), count)
    return members


def _load_member(uri: str, *, dim: int, num_classes: int) -> State:
    name = storage.redact(uri)
    content = read_checkpoint(uri)
    if not isinstance(content, Mapping) or not isinstance(content.get("model_state_dict"), Mapping):
        raise ValueError(f'{name}: expected {{"model_state_dict": {{…}}}}, got {describe(content)}')
    state = state_dict(content["model_state_dict"], name)
    expected = member_shapes(num_classes, dim)
    for counter in expected.keys() - state.keys():
        if counter.endswith("num_batches_tracked"):  # PyTorch before 0.4.1 wrote none
            state[counter] = torch.zeros((), dtype=torch.int64)
    shapes = shapes_of(state)
    check_shapes(shapes, expected, f"{name}: not a pixel classifier of {dim} features and {num_classes} classes")
    return usable(state, name)


def _noise(config: ConvertConfig, shape: tuple[int, ...]) -> tuple[Tensor, dict[str, Any]]:
    """The noise, float32 of that shape, and where it comes from."""
    if config.noise is not None:
        return load_noise(config.noise, shape), {"file": base_name(config.noise)}
    generator = config.noise_generator or "cuda"
    draw = torch_cuda_noise if generator == "cuda" else torch_cpu_noise
    return draw(config.noise_seed, shape), {"generator": generator, "seed": config.noise_seed}


def load_noise(uri: str, expected: tuple[int, ...]) -> Tensor:
    """Reads a `.npy` file of floats with the shape `expected`, (1, ...), or without its first axis, as float32.

    Raises ValueError for anything else.
    """
    name = storage.redact(uri)
    try:
        noise = np.load(io.BytesIO(storage.read_bytes(uri)), allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{name}: not a .npy file of numbers ({reason(error)})") from None
    if not isinstance(noise, np.ndarray) or noise.dtype.kind != "f" or noise.shape not in (expected, expected[1:]):
        found = f"{noise.dtype} {noise.shape}" if isinstance(noise, np.ndarray) else "an .npz archive"
        raise ValueError(f"{name}: {found}; expected float32 {expected} for this network")
    if not np.isfinite(noise).all():
        raise ValueError(f"{name}: the noise has values that are not finite numbers")
    mean, deviation = float(noise.mean(dtype=np.float64)), float(noise.std(dtype=np.float64))
    # Six standard errors: real noise exceeds them less than once in a million conversions.
    if abs(mean) > 6 / noise.size**0.5 or abs(deviation - 1) > 6 / (2 * noise.size) ** 0.5:
        logger.warning("%s: mean %.3f and deviation %.3f are not those of standard normal noise", name, mean, deviation)
    return torch.from_numpy(noise.astype(np.float32).reshape(expected))
