"""Networks on torch's "meta" device, whose weights take no memory: to know their shapes, or to give them weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

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
    network.load_state_dict(dict(weights), assign=True)
    return network
