"""Random augmentation of annotated images: flips, small affine maps and colour changes. Labels move with their
images."""

# Shapes: N images of S x S pixels.

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ddpm_seg.model.networks.pixel_values import from_network, to_network
from ddpm_seg.tasks import Task

# RGB to brightness and two axes of colour (YIQ), in which a change of hue is a rotation.
YIQ = torch.tensor([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


@dataclass(frozen=True, kw_only=True, slots=True)
class Augmentation:
    """The largest change of each kind; each change is drawn uniformly from [-largest, largest]."""

    rotation: float = 15.0
    """In degrees."""
    scale: float = 0.2
    """Natural logarithm of the scale factor."""
    shift: float = 0.1
    """Fraction of the image's side."""
    brightness: float = 0.2
    """Added to pixel values in [-1, 1]."""
    contrast: float = 0.3
    """Natural logarithm of the contrast factor."""
    saturation: float = 0.8
    """Natural logarithm of the saturation factor."""
    hue: float = 180.0
    """In degrees; 180 allows every hue."""


# Pixels are not moved: resampling blurs, and the DDPM has not been trained on blurred images.
SLIGHT_COLOURS = Augmentation(rotation=0, scale=0, shift=0, brightness=0.1, contrast=0.15, saturation=0.3, hue=30)
"""Changes that leave an image as likely as it was."""


def augment(
    images: Tensor, labels: Tensor, task: Task, options: Augmentation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Augments images (N, 3, S, S) float32 in [-1, 1] with their labels (N, S, S) uint8, each pair in its own way.

    Half of the pairs are mirrored, and the classes in them swapped that the `task` pairs. Where a pair is moved,
    reflection fills the borders of image and labels alike.
    """
    maps_N23, mirrored_N = _affine_maps(len(images), options, generator)
    grid = F.affine_grid(maps_N23, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    moved_labels = labels[:, None].to(images.dtype)
    moved_labels = F.grid_sample(moved_labels, grid, mode="nearest", padding_mode="reflection", align_corners=False)
    new_labels = moved_labels[:, 0].round().to(torch.uint8)
    new_labels[mirrored_N] = torch.from_numpy(mirrored_labels(task))[new_labels[mirrored_N].long()]
    return recolour(moved, options, generator), new_labels


def mirrored_labels(task: Task) -> NDArray[np.uint8]:
    """(256,): for each label, the one that the same part has in a mirror image, as the `task` pairs its classes."""
    label = np.arange(256, dtype=np.uint8)
    label[: task.num_classes] = task.mirrored_ids
    return label


def recolour(images: Tensor, options: Augmentation, generator: torch.Generator) -> Tensor:
    """Changes the colours of each image of (N, 3, S, S) float32 in [-1, 1] at random.

    Applies one linear map per image (contrast to all channels, saturation and hue around grey), then adds brightness.
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


def slightly_recoloured(images: NDArray[np.uint8], generator: torch.Generator) -> NDArray[np.uint8]:
    """The images (N, S, S, 3) uint8, each with slightly different colours."""
    return from_network(recolour(to_network(images, "cpu"), SLIGHT_COLOURS, generator))


def _affine_maps(n: int, options: Augmentation, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(N, 2, 3): maps each output position to the position it is read from, in coordinates from -1 to 1; and (N,) bool:
    which of them mirror."""
    angle = _uniform(n, math.radians(options.rotation), generator)
    scale = _uniform(n, options.scale, generator).exp()
    flip = torch.where(_uniform(n, 1, generator) < 0, -1.0, 1.0)
    x, y = _uniform(n, 2 * options.shift, generator), _uniform(n, 2 * options.shift, generator)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    return torch.stack([cos * flip, -sin, x, sin * flip, cos, y], dim=1).view(n, 2, 3), flip < 0


def _uniform(n: int, largest: float, generator: torch.Generator) -> Tensor:
    return (2 * torch.rand(n, generator=generator) - 1) * largest
