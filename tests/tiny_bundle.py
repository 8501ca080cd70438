"""A random network small enough to segment an image in a hundredth of a second."""

from __future__ import annotations

import torch

from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.ensemble import member_shapes
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.diffusion.ddpm import DDPMConfig
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.tasks import Task

TASK = Task(
    name="tiny-5",
    class_names=("background", "red", "green", "blue", "other"),
    palette=((0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)),
)


def tiny_bundle(seed: int = 0, size: int = 16) -> Bundle:
    unet = UNetConfig(
        image_size=size, num_channels=32, num_res_blocks=1, channel_mult=(1, 2), attention_resolutions=(size // 2,)
    )
    network = DDPMConfig(unet=unet, diffusion=DiffusionConfig(steps=100))
    features = FeatureConfig(steps=(10,), blocks=(0, 1))
    generator = torch.Generator().manual_seed(seed)

    def random(shape: tuple[int, ...]) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    members = member_shapes(TASK.num_classes, sum(features.channels(network)))
    return Bundle(
        network=network,
        weights={key: random(shape) * 0.1 for key, shape in weight_shapes(unet).items()},
        noise=random((1, 3, size, size)),
        features=features,
        # A running variance is never negative.
        members=tuple(
            {
                key: random(shape).abs() + 0.5 if key.endswith("running_var") else random(shape) * 0.3
                for key, shape in members.items()
            }
            for _ in range(2)
        ),
        task=TASK,
    )
