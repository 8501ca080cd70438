"""A network as large as the published checkpoints, with random weights: its cost does not depend on their values."""

from __future__ import annotations

import torch
from torch import Tensor

from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.ensemble import member_shapes
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.diffusion.ddpm import DDPMConfig
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.tasks import TASKS

MEMBERS = 10


def published_size_bundle(dtype: torch.dtype = torch.float32) -> Bundle:
    """LSUN/FFHQ-256's network (552.8 million parameters, in `dtype`) with ten classifiers for FFHQ-34's classes."""
    config = UNetConfig(
        image_size=256, num_channels=256, num_res_blocks=2, channel_mult=(1, 1, 2, 2, 4, 4),
        attention_resolutions=(32, 16, 8), num_head_channels=64, resblock_updown=True, learn_sigma=True,
    )  # fmt: skip
    network = DDPMConfig(unet=config, diffusion=DiffusionConfig())
    features = FeatureConfig(steps=(50, 150, 250), blocks=(5, 6, 7, 8, 12))
    task, generator = TASKS["ffhq_34"], torch.Generator().manual_seed(0)
    classifier = member_shapes(task.num_classes, sum(features.channels(network)))
    return Bundle(
        network=network,
        weights={key: _random(key, shape, generator).to(dtype) for key, shape in weight_shapes(config).items()},
        noise=torch.randn(1, 3, 256, 256, generator=generator),
        features=features,
        members=tuple(
            {key: _random(key, shape, generator) for key, shape in classifier.items()} for _ in range(MEMBERS)
        ),
        task=task,
    )


def _random(key: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Random weights that keep the size of activations about equal from layer to layer."""
    if not shape:
        return torch.tensor(0)
    if key.endswith("running_var"):
        return torch.ones(shape)
    return torch.randn(shape, generator=generator) / torch.Size(shape[1:]).numel() ** 0.5
