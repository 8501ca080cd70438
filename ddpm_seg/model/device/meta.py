"""Networks without memory for their weights, on torch's "meta" device: to know shapes, or to take weights over."""

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
        """What messages call it."""

    def build(self) -> nn.Module:
        """The network with random weights, on torch's default device."""


def weight_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """Shape of every entry of the network's state dict.

    Raises BundleError where it cannot be built or has more than MAX_PARAMETERS.
    """
    title = architecture.title
    try:
        with torch.device("meta"):
            shapes = {key: tuple(value.shape) for key, value in architecture.build().state_dict().items()}
    except ModuleNotFoundError as error:
        raise BundleError(str(error)) from error
    # torch, torchvision and diffusers each have their own exceptions for a network that makes no sense.
    except Exception as error:
        raise BundleError(f"this {title} cannot be built: {type(error).__name__}: {one_line(error)}") from error
    if (parameters := sum(map(math.prod, shapes.values()))) > MAX_PARAMETERS:
        raise BundleError(f"this {title} has {parameters:.3g} parameters, expected at most {MAX_PARAMETERS:.3g}")
    return shapes


def with_weights(architecture: Architecture, weights: Mapping[str, Tensor]) -> nn.Module:
    """The network with the tensors of `weights` themselves: they are not copied. Raises RuntimeError for other keys."""
    with torch.device("meta"):
        network = architecture.build()
    network.load_state_dict(dict(weights), assign=True)
    return network
