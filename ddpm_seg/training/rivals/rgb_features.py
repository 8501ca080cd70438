"""Pixel features without a network: a pixel's colour and position. Learnt features have to beat these."""

# Shapes: N images of S x S pixels.

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_seg.data.annotations.load import Annotation, labelled_pixels
from ddpm_seg.model.ensemble import Ensemble
from ddpm_seg.model.networks.pixel_values import to_network
from ddpm_seg.tasks import Task
from ddpm_seg.training.ensemble.copies import Copies
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig, train_members
from ddpm_seg.training.ensemble.pixel_features import PixelFeatures

CHANNELS = 5


def rgb_and_coordinates(images: NDArray[np.uint8], device: str) -> Tensor:
    """Images (N, S, S, 3) uint8 to one map (N, 5, S, S) float32: R, G, B, x and y, all in [-1, 1]."""
    x_0 = to_network(images, device)
    n, _, height, width = x_0.shape
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, height, device=device), torch.linspace(-1, 1, width, device=device), indexing="ij"
    )
    return torch.cat([x_0, torch.stack([x, y]).expand(n, 2, height, width)], dim=1)


def train_on_rgb(
    annotations: Sequence[Annotation],
    *,
    task: Task,
    training: EnsembleConfig,
    copies: Copies = Copies(),  # noqa: B008  frozen
    device: str = "cpu",
) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """Trains the ensemble in the same way as `few_shot.train_bundle`, but on colours and coordinates instead of
    activations.

    Returns a function from images (N, S, S, 3) uint8 to class ids (N, S, S) uint8.
    """
    shown = copies.added_to(annotations, training.seed, task)
    pixels, labels = labelled_pixels([annotation.label for annotation in shown], task)
    maps = rgb_and_coordinates(np.stack([annotation.image for annotation in shown]), device)
    size = maps.shape[-1]
    features = PixelFeatures(num_images=len(maps), image_size=size, mode="nearest", dtype=torch.float32, device=device)
    features.store(0, [maps])
    members = train_members(
        features, torch.from_numpy(pixels), torch.from_numpy(labels).long(), task.num_classes, training
    )
    ensemble = Ensemble(
        [member.weights for member in members], channels=[CHANNELS], sides=[1], upsample_mode="nearest", device=device
    )

    def label(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        votes = ensemble([rgb_and_coordinates(images, device)], (size, size))
        return np.stack([vote.label.cpu().numpy() for vote in votes])

    return label
