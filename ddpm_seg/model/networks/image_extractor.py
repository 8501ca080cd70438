"""A network that sees the image as it is, without noise, as a source of features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ddpm_seg.model.features import FeatureConfig, joined
from ddpm_seg.model.networks.mae import MAE
from ddpm_seg.model.networks.pixel_values import to_imagenet
from ddpm_seg.model.networks.swav import SwAV


class ImageExtractor:
    """A resident MAE or SwAV, which were trained on pictures with ImageNet's mean and deviation taken out."""

    def __init__(self, network: MAE | SwAV) -> None:
        self.network = network

    def __call__(self, images: np.ndarray, features: FeatureConfig, *, micro_batch: int | None = None) -> list[Tensor]:
        """Maps of `images` (N, S, S, 3) uint8; see `features.Extractor`."""
        weight = next(self.network.parameters())
        x = to_imagenet(images, weight.device).to(weight.dtype, memory_format=torch.channels_last)
        return joined([self.network.activations(part, features.blocks) for part in x.split(micro_batch or len(x))])
