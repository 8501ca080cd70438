"""Networks on torch's "meta" device, whose weights take no memory: to know their shapes, or to give them weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.json_values import one_line
from ddpm_seg.model.limits import MAX_PARAMETERS


class Architecture(Protocol):
    """The configuration of a network."""

    @property
    def title(self) -> str:
        """Its name in messages."""

    def build(self) -> nn.Module:
        """The network with random weights, on torch's default device."""


def weight_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Shape of every entry in the network's state dict.

    Raises BundleError if the network cannot be built or has more than MAX_PARAMETERS.
    """
    title = architecture.title
    try:
        with torch.device("meta"):
            shapes = {key: tuple(value.shape) for key, value in architecture.build().state_dict().items()}
    except ModuleNotFoundError as error:
        raise BundleError(str(error)) from error
    # torch, torchvision and diffusers raise various exceptions for an invalid network.
    except Exception as error:
        raise BundleError(f"this {title} cannot be built: {type(error).__name__}: {one_line(error)}") from error
    if (parameters := sum(map(math.prod, shapes.values()))) > MAX_PARAMETERS:
        raise BundleError(f"this {title} has {parameters:.3g} parameters, expected at most {MAX_PARAMETERS:.3g}")
    return shapes


def with_weights(architecture: Architecture, weights: Mapping[str, Tensor]) -> nn.Module:
    """The network with the tensors in `weights`, without copying them. Raises RuntimeError if the keys do not match."""
    with torch.device("meta"):
        network = architecture.build()
    if {name for name, _ in network.named_buffers()} - network.state_dict().keys():
        # Tables that the network computes for itself are in no file, and would have no values.
        with _Uninitialised():
            network = architecture.build()
    network.load_state_dict(dict(weights), assign=True)
    return network


class _Uninitialised(TorchFunctionMode):
    """Skips whatever would write into a parameter. One that is never written takes no memory, whatever its size."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        changes = name.endswith("_") and not name.endswith("__") and name not in ("requires_grad_", "detach_")
        target = args[0] if args else (kwargs or {}).get("tensor")
        if changes and isinstance(target, nn.Parameter):
            return target
        return func(*args, **(kwargs or {}))
