"""What the readers of timm's and transformers' folders share."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ddpm_seg.model.device.meta import weight_shapes, with_weights
from ddpm_seg.model.json_values import shown
from ddpm_seg.model.published.diffusers.files import Folder
from ddpm_seg.model.published.diffusers.hub import local_folder, needed_of_model
from ddpm_seg.model.published.diffusers.weights import MODEL, read_weights
from ddpm_seg.model.published.state_dicts import check_shapes, usable
from ddpm_seg.model.shapes import shapes_of

LARGE_SIDE = 512
"""Side of the images for networks that see any number of patches equally well, unless --image-size says another."""


@dataclass(frozen=True, slots=True)
class Whole:
    """The network of a folder, with the parts that give no features."""

    title: str
    build: Callable[[], nn.Module]


def open_folder(name: str, library: str) -> tuple[Folder, dict[str, Any]]:
    """The folder, or the hub's repository, and the content of its config.json.

    Raises ValueError if `library` is not installed, OSError if there is no such folder or file.
    """
    if importlib.util.find_spec(library) is None:
        raise ValueError(f"No module named '{library}': --{library} needs pip install 'ddpm_seg[{library}]'")
    folder = Folder(local_folder(name, needed_of_model, landmark="config.json", what=f"{library} model"))
    return folder, folder.read_part(("",), "config.json", f"{library} model")[1]


def read_whole(whole: Whole, folder: Folder, part: str = "", stem: str = MODEL) -> nn.Module:
    """The network with the weights in the folder, float32 on the CPU.

    Raises ValueError if weights are missing, unknown, of another shape or not finite.
    """
    expected = weight_shapes(whole)
    state = read_weights(folder, part, stem)
    where = folder.named(part)
    complaint = f"{where}: not the weights of the network that its config.json describes"
    check_shapes(shapes_of(state), expected, complaint)
    return with_weights(whole, {key: _float32(tensor) for key, tensor in usable(state, where).items()})


def kept_weights(network: nn.Module, expected: Mapping[str, tuple[int, ...]], where: str) -> dict[str, Tensor]:
    """The tensors of `network` that have the names and shapes `expected`: all but those of its head."""
    state = network.state_dict()
    kept = {key: tensor.detach() for key, tensor in state.items() if key in expected}
    check_shapes(shapes_of(kept), expected, f"{where}: not the network that its config.json describes")
    return kept


def chosen_side(given: int | None, default: int, patch: int) -> int:
    """The side of the images: --image-size, or the multiple of `patch` next to `default`.

    Raises ValueError if --image-size is not a multiple of `patch`.
    """
    if given is not None and given % patch:
        raise ValueError(f"--image-size {given} must be a multiple of this network's {patch}")
    return given or max(1, round(default / patch)) * patch


def three_values(value: object, name: str) -> tuple[float, ...]:
    """Raises ValueError unless `value` is a list of three numbers."""
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(type(one) in (int, float) for one in value):
        raise ValueError(f"{name} is {shown(value)}, expected three numbers")
    return tuple(value)


def _float32(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32) if tensor.is_floating_point() else tensor


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps transformers' notes and progress bars from the terminal: what matters is said here."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()
