"""Checkpoints of guided-diffusion, ddpm-segmentation and ModelScope to a bundle; only here are their files known."""

from __future__ import annotations

import io
import logging
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.model.bundle import Bundle
from ddpm_seg.model.ddpm import DDPMConfig
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.ensemble import member_shapes
from ddpm_seg.model.published_experiment import Experiment, load_experiment, load_modelscope_configuration
from ddpm_seg.model.published_flags import LSUN_FFHQ_256, configs_from_flags, contradictions, split_model_flags
from ddpm_seg.model.reference_noise import torch_cpu_noise, torch_cuda_noise
from ddpm_seg.model.unet import UNetConfig, unet_shapes

logger = logging.getLogger(__name__)

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True, slots=True)
class ConvertConfig:
    """Either --ddpm (with --classifiers and --experiment for a segmentation model) or --modelscope alone."""

    output: str
    """Where the bundle goes: a folder, s3://bucket/prefix, …"""
    ddpm: str | None = None
    """guided-diffusion checkpoint: the .pt file of a state dict."""
    classifiers: str | None = None
    """Folder of the ensemble: model_0.pth, model_1.pth, …"""
    experiment: str | None = None
    """ddpm-segmentation experiment file of these classifiers (experiments/*/ddpm.json)."""
    model_flags: str = LSUN_FFHQ_256
    """MODEL_FLAGS that the checkpoint was trained with, in one string."""
    noise: str | None = None
    """.npy file (1, 3, S, S) of the noise that the classifiers were trained with; without it, a generator makes it."""
    noise_generator: Literal["cpu", "cuda"] | None = None
    """Generator of the noise: cuda, as ddpm-segmentation trains on a GPU (the default), or cpu. Needs no GPU."""
    noise_seed: int = 0
    """Seed of that generator."""
    modelscope: str | None = None
    """Folder of ModelScope's cv_diffusion_image-segmentation; excludes every other flag but --output."""

    def check(self) -> None:
        """Raises ValueError for flags that do not go together."""
        if self.modelscope is not None:
            others = {field.name: field.default for field in fields(self) if field.name not in ("output", "modelscope")}
            if given := [name for name, default in others.items() if getattr(self, name) != default]:
                flag = given[0].replace("_", "-")
                raise ValueError(f"--modelscope says everything itself: leave out --{flag}, or --modelscope")
            return
        if self.ddpm is None:
            raise ValueError("nothing to convert: give --ddpm FILE.pt, or --modelscope DIR")
        if (self.classifiers is None) != (self.experiment is None):
            missing = "experiment FILE.json" if self.experiment is None else "classifiers DIR"
            raise ValueError(f"--classifiers and --experiment go together: add --{missing}, or leave out both")
        if self.noise is not None and (self.noise_generator is not None or self.noise_seed != 0):
            raise ValueError("--noise is the noise itself: leave out --noise-generator and --noise-seed, or --noise")


def convert(config: ConvertConfig) -> Bundle:
    """Reads what `config` names into a bundle, with nothing written; one without classifiers is a DDPM alone.

    Raises ValueError for files that are damaged, refused or contradict each other, FileNotFoundError for missing ones.
    """
    config.check()
    if config.modelscope is not None:
        return load_modelscope(config.modelscope)
    assert config.ddpm is not None  # config.check
    flags = split_model_flags(config.model_flags)
    experiment = None if config.experiment is None else load_experiment(config.experiment)
    if experiment is not None:
        flags.setdefault("image_size", str(experiment.dim[0]))  # as the published train_interpreter.py takes it
    unet, diffusion = configs_from_flags(flags)
    noise, noise_source = _noise(config, unet.image_size)
    provenance = {
        "ddpm": _basename(config.ddpm),
        "model_flags": flags,
        "noise": noise_source,
        **({} if config.experiment is None else {"experiment": _basename(config.experiment)}),
    }
    return _assemble(config.ddpm, config.classifiers, experiment, unet, diffusion, noise, provenance)


def load_modelscope(directory: str) -> Bundle:
    """A bundle of a ModelScope model folder; its noise is the CPU generator's, seed 0, as its pipeline draws it."""
    experiment, flags = load_modelscope_configuration(directory)
    flags.setdefault("image_size", experiment.dim[0])
    unet, diffusion = configs_from_flags(flags)
    noise = torch_cpu_noise(0, _noise_shape(unet.image_size))
    provenance = {
        "modelscope": _basename(directory),
        "model_flags": flags,
        "noise": {"generator": "cpu", "seed": 0},
    }
    ddpm, classifiers = (storage.join(directory, name) for name in ("pytorch_model.pt", experiment.category))
    return _assemble(ddpm, classifiers, experiment, unet, diffusion, noise, provenance)


def _assemble(
    ddpm: str,
    classifiers: str | None,
    experiment: Experiment | None,
    unet: UNetConfig,
    diffusion: DiffusionConfig,
    noise: Tensor,
    provenance: dict[str, Any],
) -> Bundle:
    """The network first: flags that are not the checkpoint's would make the experiment look wrong."""
    network, weights = DDPMConfig(unet=unet, diffusion=diffusion), load_unet(ddpm, unet)
    features, task = None, None
    members: tuple[State, ...] = ()
    if experiment is not None and classifiers is not None:
        features, task = experiment.features(network), experiment.task()
        members = load_members(
            classifiers, experiment.model_num, dim=experiment.dim[2], num_classes=experiment.number_class
        )
        provenance |= {"classifiers": [f"model_{index}.pth" for index in range(len(members))]}
    return Bundle(
        network=network,
        weights=weights,
        noise=noise,
        features=features,
        members=members,
        task=task,
        provenance={"converted": provenance},
    )


def load_unet(uri: str, config: UNetConfig) -> State:
    """A guided-diffusion state dict, checked against the network that `config` describes.

    Weights keep float16 or float32; other floating types become float32. Raises ValueError where a file is damaged or
    refused, or does not fit; where its shapes contradict a flag, it names the flag, the value and what they show.
    """
    name = storage.redact(uri)
    state = _state_dict(read_checkpoint(uri), name)
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    landmarks = ("time_embed.0.weight", "input_blocks.0.0.weight", "out.2.weight")
    if absent := [key for key in landmarks if key not in shapes]:
        raise ValueError(
            f"{name}: not a guided-diffusion network: it has no {absent[0]}, but {_some(shapes)}; "
            "give its plain state dict"
        )
    if shapes["input_blocks.0.0.weight"][1:2] != (3,):
        raise ValueError(
            f"{name}: input_blocks.0.0.weight is {shapes['input_blocks.0.0.weight']}; expected a network that takes "
            "the 3 channels of an image and nothing else (this may be a super-resolution model)"
        )
    if found := contradictions(config, shapes):
        raise ValueError(f"{name}: the model flags are not this checkpoint's: {'; '.join(found)}")
    _check_shapes(shapes, unet_shapes(config), f"{name}: not the network that the model flags describe")
    return _usable(state, name)


def load_members(directory: str, count: int, *, dim: int, num_classes: int) -> tuple[State, ...]:
    """`model_0.pth` … of a folder as `count` members without the `module.` prefix; ValueError names the file."""
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
        raise ValueError(f'{name}: expected {{"model_state_dict": {{…}}}}, got {_describe(content)}')
    state = _state_dict(content["model_state_dict"], name)
    expected = member_shapes(num_classes, dim)
    for counter in expected.keys() - state.keys():
        if counter.endswith("num_batches_tracked"):  # PyTorch before 0.4.1 wrote none
            state[counter] = torch.zeros((), dtype=torch.int64)
    shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
    _check_shapes(shapes, expected, f"{name}: not a pixel classifier of {dim} features and {num_classes} classes")
    return _usable(state, name)


def read_checkpoint(uri: str) -> Any:
    """What `torch.save` wrote, in its zip or its older form, on the CPU; tensors and plain containers only.

    A pickle may name any function and have it called, so that a checkpoint which needs anything else is refused.
    """
    name = storage.redact(uri)
    uri = storage.normalize(uri)
    # Mapped, a file of gigabytes costs no memory until its weights are read. Only the zip form can be.
    mapped = storage.is_local(uri) and zipfile.is_zipfile(uri)
    source = uri if mapped else io.BytesIO(storage.read_bytes(uri))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols that it then reads, or refuses with a message
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        if found := re.search(r"GLOBAL (\S+)", str(error)):
            raise ValueError(
                f"{name}: refused: it needs {found[1]}, and only tensors in plain containers are read from a pickle; "
                "save the state dict alone, with torch.save(model.state_dict(), FILE)"
            ) from None
        raise ValueError(f"{name}: not a checkpoint that can be read: {_reason(error)}") from None
    except OSError:
        raise
    # A damaged pickle can end in almost any exception of the interpreter that torch runs it with.
    except Exception as error:
        raise ValueError(f"{name}: not a checkpoint, or a damaged one: {_reason(error)}") from None


def _state_dict(content: Any, name: str) -> State:
    """Tensors by key, without the prefix of `DataParallel`."""
    tensors = isinstance(content, Mapping) and all(
        isinstance(key, str) and isinstance(value, Tensor) and value.layout is torch.strided
        for key, value in content.items()
    )
    if not tensors or not content:
        raise ValueError(f"{name}: expected a plain state dict (tensors by name), got {_describe(content)}")
    prefixed = all(key.startswith("module.") for key in content)
    return {key.removeprefix("module.") if prefixed else key: value for key, value in content.items()}


def _check_shapes(shapes: Mapping[str, Any], expected: Mapping[str, Any], complaint: str) -> None:
    missing, unknown = expected.keys() - shapes.keys(), shapes.keys() - expected.keys()
    wrong = [key for key in expected if key in shapes and shapes[key] != expected[key]]
    details = [f"{key} is {shapes[key]}, expected {expected[key]}" for key in wrong[:3]]
    if missing:
        details.append(f"it lacks {_some(missing)}")
    if unknown:
        details.append(f"it has {_some(unknown)}, which the network lacks")
    if details:
        raise ValueError(f"{complaint}: {'; '.join(details)}")


def _usable(state: State, name: str) -> State:
    """Float16 and float32 as they are, other floating types as float32; ValueError for a weight that is no number."""
    usable = {}
    for key, tensor in state.items():
        if not tensor.is_floating_point() and not key.endswith("num_batches_tracked"):
            raise ValueError(f"{name}: {key} is {tensor.dtype}; expected floating-point weights")
        if tensor.is_floating_point() and tensor.dtype not in (torch.float16, torch.float32):
            tensor = tensor.float()
        if not tensor.isfinite().all():
            raise ValueError(f"{name}: {key} has values that are not finite numbers; the file is damaged")
        usable[key] = tensor
    return usable


def _noise_shape(size: int) -> tuple[int, int, int, int]:
    return (1, 3, size, size)


def _noise(config: ConvertConfig, size: int) -> tuple[Tensor, dict[str, Any]]:
    """The noise (1, 3, S, S) float32 and where it is from."""
    shape = _noise_shape(size)
    if config.noise is not None:
        return load_noise(config.noise, size), {"file": _basename(config.noise)}
    generator = config.noise_generator or "cuda"
    draw = torch_cuda_noise if generator == "cuda" else torch_cpu_noise
    return draw(config.noise_seed, shape), {"generator": generator, "seed": config.noise_seed}


def load_noise(uri: str, size: int) -> Tensor:
    """A `.npy` file of floats, (1, 3, S, S) or (3, S, S), as (1, 3, S, S) float32; ValueError for anything else."""
    name, expected = storage.redact(uri), _noise_shape(size)
    try:
        noise = np.load(io.BytesIO(storage.read_bytes(uri)), allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{name}: not a .npy file of numbers ({_reason(error)})") from None
    if not isinstance(noise, np.ndarray) or noise.dtype.kind != "f" or noise.shape not in (expected, expected[1:]):
        found = f"{noise.dtype} {noise.shape}" if isinstance(noise, np.ndarray) else "an .npz archive"
        raise ValueError(f"{name}: {found}; expected float32 {expected} for the network's image_size {size}")
    if not np.isfinite(noise).all():
        raise ValueError(f"{name}: the noise has values that are not finite numbers")
    mean, deviation = float(noise.mean(dtype=np.float64)), float(noise.std(dtype=np.float64))
    # Six standard errors: a true draw does not look so once in a million conversions.
    if abs(mean) > 6 / noise.size**0.5 or abs(deviation - 1) > 6 / (2 * noise.size) ** 0.5:
        logger.warning("%s: mean %.3f and deviation %.3f are not those of standard normal noise", name, mean, deviation)
    return torch.from_numpy(noise.astype(np.float32).reshape(expected))


def _describe(content: Any) -> str:
    return f"a dictionary with {_some(content)}" if isinstance(content, Mapping) else f"a {type(content).__name__}"


def _some(names: Any) -> str:
    """The first few names, and how many more there are."""
    ordered = sorted(map(str, names))
    rest = f" and {len(ordered) - 3} more" if len(ordered) > 3 else ""
    return (", ".join(ordered[:3]) + rest) or "nothing"


def _reason(error: Exception) -> str:
    """The first sentence; of torch's refusals what its unpickler says, not the advice to load them all the same."""
    text = str(error).partition("WeightsUnpickler error:")[2] or str(error)
    return (re.split(r"\. |\n", text.strip())[0] or type(error).__name__)[:200]


def _basename(uri: str) -> str:
    return storage.redact(uri).rstrip("/").rpartition("/")[2]
