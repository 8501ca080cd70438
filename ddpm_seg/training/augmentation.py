"""Random changes to annotated images that leave their masks true: flips, small affine maps, changes of colour."""

# Shapes: N images of S x S pixels; an image and its mask are moved alike, a colour change touches the image alone.

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

# RGB to brightness and two axes of colour (YIQ), in which a change of hue is a rotation.
YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """The largest change of each kind; what is drawn is uniform between it and its opposite."""

    rotation: float = 15.0
    """Degrees."""
    scale: float = 0.2
    """Of the logarithm of the size."""
    shift: float = 0.1
    """Of the side of the image."""
    brightness: float = 0.2
    """Added; images lie in [-1, 1]."""
    contrast: float = 0.3
    """Of the logarithm."""
    saturation: float = 0.8
    """Of the logarithm."""
    hue: float = 180.0
    """Degrees, of 360."""


def augment(images: Tensor, labels: Tensor, options: Augmentation, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images (N, 3, S, S) float32 in [-1, 1] and labels (N, S, S) uint8, each pair changed in its own way.

    Half are flipped. What comes in from outside the frame is the picture's reflection, in image and mask.
    """
    grid = F.affine_grid(_affine_maps(len(images), options, generator), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    own = labels[:, None].to(images.dtype)
    own = F.grid_sample(own, grid, mode="nearest", padding_mode="reflection", align_corners=False)
    return recolour(moved, options, generator), own[:, 0].round().to(torch.uint8)


def recolour(images: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Images (N, 3, S, S) float32 in [-1, 1], each in colours of its own.

    A linear map of the colours: contrast everywhere, saturation and hue around grey; then brightness.
    """
    n = len(images)
    contrast = _uniform(n, options.contrast, generator).exp()
    saturation = _uniform(n, options.saturation, generator).exp()
    hue = _uniform(n, math.radians(options.hue), generator)
    brightness = _uniform(n, options.brightness, generator)
    change = torch.zeros(n, 3, 3)
    change[:, 0, 0] = contrast
    change[:, 1, 1] = change[:, 2, 2] = contrast * saturation * hue.cos()
    change[:, 2, 1] = contrast * saturation * hue.sin()
    change[:, 1, 2] = -change[:, 2, 1]
    of_rgb = torch.linalg.inv(YIQ) @ change @ YIQ
    recoloured = torch.baddbmm(brightness[:, None, None], of_rgb, images.flatten(2)).view_as(images)
    return recoloured.clamp(-1, 1)


def _affine_maps(n: int, options: Augmentation, generator: torch.Generator) -> Tensor:
    """(N, 2, 3): where each output position is read, in coordinates from -1 to 1."""
    angle = _uniform(n, math.radians(options.rotation), generator)
    scale = _uniform(n, options.scale, generator).exp()
    flip = torch.where(_uniform(n, 1, generator) < 0, -1.0, 1.0)
    x, y = _uniform(n, 2 * options.shift, generator), _uniform(n, 2 * options.shift, generator)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    return torch.stack([cos * flip, -sin, x, sin * flip, cos, y], dim=1).view(n, 2, 3)


def _uniform(n: int, largest: float, generator: torch.Generator) -> Tensor:
    return (2 * torch.rand(n, generator=generator) - 1) * largest
