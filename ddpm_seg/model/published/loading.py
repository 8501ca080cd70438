"""Loads the network that a flag of jobs.convert names; holds what all loaders share.

`networks.known.NETWORKS` names the modules of the loaders, in each network's `checkpoints`. Such a module defines

    def load(config: ConvertConfig, image_size: int | None) -> Loaded

which reads the file that its flag names in `config`; `image_size` is that of the classifiers, if there are any. It
raises ValueError for a file that is damaged, refused or not as expected. If the file is another network's, this module
adds the right flag to the message.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ddpm_seg import storage
from ddpm_seg.checks import flag
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.network import Checkpoint, Network
from ddpm_seg.model.networks.known import NETWORKS
from ddpm_seg.model.published.convert_config import ConvertConfig
from ddpm_seg.model.published.state_dicts import (
    State,
    check_shapes,
    read_checkpoint,
    state_dict,
    usable,
)
from ddpm_seg.model.published.wrapped_names import unwrapped_names
from ddpm_seg.model.shapes import Shapes, shapes_of, some

CHECKPOINTS: tuple[Checkpoint, ...] = tuple(one for network in NETWORKS for one in network.checkpoints)
"""All kinds of checkpoints that can be converted."""

_DEEPEST = 3
"""A state dict may be inside at most this many containers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Loaded:
    """The result of a loader."""

    network: Network
    weights: Mapping[str, Tensor]
    """State dict of the module that `network.build` returns."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Where it comes from, to be recorded in bundle.json."""


def load_network(checkpoint: Checkpoint, config: ConvertConfig, image_size: int | None) -> Loaded:
    """The network in the file that `checkpoint`'s flag names.

    Raises ValueError; if the file is another network's, with the flag to use.
    """
    try:
        if checkpoint.loader is None:
            return _load_plain(checkpoint, config, image_size)
        return importlib.import_module(f"ddpm_seg.model.published.{checkpoint.loader}").load(config, image_size)
    except ValueError as error:
        traceback.clear_frames(error.__traceback__)  # they hold the file's tensors, and it is read once more
        uri = getattr(config, checkpoint.flag)
        if another := _recognised(uri, checkpoint):
            name, right = storage.redact(uri), flag(another.flag)
            raise ValueError(f"{name} is a {another.title} checkpoint; use {right}") from None
        raise


def _load_plain(checkpoint: Checkpoint, config: ConvertConfig, image_size: int | None) -> Loaded:
    """The network in a plain state dict, as its class reads it off the shapes."""
    uri = getattr(config, checkpoint.flag)
    state = encoder_state(uri, checkpoint.title, tuple(checkpoint.landmarks), ())
    shapes, name = shapes_of(state), storage.redact(uri)
    kind: Any = next(one for one in NETWORKS if checkpoint in one.checkpoints)
    try:
        network = kind.from_shapes(shapes, config.image_size or image_size)
    except (KeyError, IndexError, ValueError) as error:
        raise ValueError(f"{name}: not a {checkpoint.title} checkpoint: {error}") from error
    check_shapes(shapes, weight_shapes(network), f"{name}: not the network of a {network.title}")
    return Loaded(network=network, weights=usable(state, name))


def encoder_state(uri: str, title: str, landmarks: tuple[str, ...], not_read: tuple[str, ...]) -> State:
    """The state dict in a checkpoint, without keys that begin with one of `not_read`.

    Raises ValueError, naming the file, if one of the keys `landmarks` is missing.
    """
    name = storage.redact(uri)
    state = state_dict(unwrapped(read_checkpoint(uri)), name)
    if absent := [key for key in landmarks if key not in state]:
        raise ValueError(f"{name}: not a {title} checkpoint: it has no {absent[0]}, but {some(state)}")
    return {key: tensor for key, tensor in state.items() if not key.startswith(not_read)}


def unwrapped(content: Any) -> Any:
    """The state dict in a checkpoint, which may also hold the state of its training."""
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            return content[key]
    return content


def _recognised(uri: str, given: Checkpoint) -> Checkpoint | None:
    """The kind of checkpoint at `uri`, judged by the names in it, if it is not the one `given`."""
    try:
        content = read_checkpoint(uri)
    except (ValueError, OSError):
        return None
    kinds = [one for shapes in _state_dicts(content, _DEEPEST) for one in CHECKPOINTS if _fits(one, shapes)]
    return kinds[0] if kinds and given not in kinds else None


def _fits(checkpoint: Checkpoint, shapes: Shapes) -> bool:
    return bool(checkpoint.landmarks) and all(
        name in shapes and (length is None or shapes[name][:1] == (length,))
        for name, length in checkpoint.landmarks.items()
    )


def _state_dicts(content: Any, depth: int) -> Iterator[Shapes]:
    """Yields the shapes in each state dict of a checkpoint, which may hold several networks."""
    if not isinstance(content, Mapping):
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    names = unwrapped_names(tensors)
    yield shapes_of({names[key]: value for key, value in tensors.items()})
    if depth > 0:
        for value in content.values():
            yield from _state_dicts(value, depth - 1)
