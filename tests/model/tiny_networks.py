"""Small random networks, ensembles and images, the same on every machine."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor

from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.ensemble import member_shapes
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.network import Network
from ddpm_seg.model.networks.alae import ALAEConfig
from ddpm_seg.model.networks.diffusion.ddpm import DDPMConfig
from ddpm_seg.model.networks.diffusion.unet import UNet, UNetConfig
from ddpm_seg.model.networks.mae import MAEConfig
from ddpm_seg.model.networks.swav import SwAVConfig
from ddpm_seg.model.networks.vdvae import VDVAEConfig
from ddpm_seg.model.resident import resident_extractor
from ddpm_seg.tasks import Task
from tests.model import golden_weights

TINY_MAE = MAEConfig(image_size=32, patch_size=8, width=32, depth=3, num_heads=2)
TINY_SWAV = SwAVConfig(image_size=32, width=8)
TINY_VDVAE = VDVAEConfig(
    image_size=32,
    width=16,
    inner_width=8,
    zdim=4,
    enc_blocks="32,32d2,16x2,16d4,4d4,1",
    dec_blocks="1,4m1,16m4,32m16",
    no_bias_above=4,
    shift=-120.63838,
    deviation=64.16736,
)
TINY_ALAE = ALAEConfig(image_size=32, widths=(4, 8, 8, 12, 12, 16))  # enlarges images to 64 x 64


def drawn_config(seed: int) -> UNetConfig:
    """A random one of the architectures that the published flags can describe."""
    draw = random.Random(seed)
    size = draw.choice([16, 24, 32, 48])
    channel_mult = draw.choice([(1,), (1, 2), (2, 1), (1, 1, 2), (0.5, 1, 1), (1, 1.5), (1, 2, 1, 2)])
    return UNetConfig(
        image_size=size,
        num_channels=32 if all(multiplier == int(multiplier) for multiplier in channel_mult) else 64,
        num_res_blocks=draw.choice([1, 1, 2, 3]),
        channel_mult=channel_mult,
        # Some do not divide the size, one is larger than the image, some meet no level.
        attention_resolutions=draw.choice([(8,), (16, 8), (size,), (size // 2, size // 4), (2 * size,), (7, 3), (11,)]),
        num_heads=draw.choice([1, 2, 4, 8]),
        num_head_channels=draw.choice([None, None, 8, 32]),
        num_heads_upsample=draw.choice([None, None, 1, 8]),
        resblock_updown=draw.random() < 0.5,
        use_scale_shift_norm=draw.random() < 0.5,
        use_new_attention_order=draw.random() < 0.5,
        learn_sigma=draw.random() < 0.5,
        dropout=draw.choice([0.0, 0.1]),
    )


def weights(config: UNetConfig, seed: int = 0) -> dict[str, Tensor]:
    return {key: _tensor(f"{seed}/{key}", shape) for key, shape in weight_shapes(config).items()}


def network(config: UNetConfig, seed: int = 0) -> UNet:
    unet = UNet(config)
    unet.load_state_dict(weights(config, seed))
    return unet.eval().requires_grad_(False)


def members(count: int, classes: int, dim: int, seed: int = 0) -> list[dict[str, Tensor]]:
    shapes = member_shapes(classes, dim)
    return [{key: _tensor(f"{seed}/{i}/{key}", shape) for key, shape in shapes.items()} for i in range(count)]


def normal(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(golden_weights.noise(seed, shape))


def images(count: int, size: int) -> np.ndarray:
    """(N, S, S, 3) uint8."""
    return np.stack([golden_weights.image(seed, size) for seed in range(count)])


def task(classes: int) -> Task:
    return Task(
        name=f"task-{classes}",
        class_names=tuple(f"class {index}" for index in range(classes)),
        palette=tuple((index, index, index) for index in range(classes)),
    )


def bundle(
    config: UNetConfig,
    features: FeatureConfig,
    *,
    classes: int = 5,
    num_members: int = 3,
    seed: int = 0,
) -> Bundle:
    network = DDPMConfig(unet=config, diffusion=DiffusionConfig())
    return Bundle(
        network=network,
        weights=weights(config, seed),
        noise=normal(seed, 1, 3, config.image_size, config.image_size),
        features=features,
        members=tuple(members(num_members, classes, sum(features.channels(network)), seed)),
        task=task(classes),
    )


def backbone_bundle(network: Network, *, classes: int = 5, num_members: int = 3) -> Bundle:
    """Of any network, reading what is published of its kind."""
    features = network.published_features()
    return Bundle(
        network=network,
        weights={key: _tensor(key, shape) for key, shape in weight_shapes(network).items()},
        noise=normal(0, *network.noise_shape) if network.noise_shape else None,
        features=features,
        members=tuple(members(num_members, classes, sum(features.channels(network)))),
        task=task(classes),
    )


@torch.inference_mode()
def assert_extractor_keeps_its_word(network: Network) -> None:
    """Maps come in ascending block order, each once, equal whatever is read beside them and in whatever batches."""
    extract, pictures = resident_extractor(backbone_bundle(network), "cpu"), images(3, network.image_size)
    every = FeatureConfig(steps=(), blocks=tuple(range(len(network.block_channels))))
    whole = extract(pictures, every)
    assert [one.shape[1] for one in whole] == every.channels(network)
    assert [one.shape[3] for one in whole] == every.sides(network)
    some = extract(pictures, FeatureConfig(steps=(), blocks=(2, 0, 2)), micro_batch=2)
    for actual, expected in zip(some, (whole[0], whole[2]), strict=True):
        assert_close(actual, expected, 1e-5)


def assert_close(actual: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    """Within `tolerance` of the expected tensor's scale."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


def _tensor(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(golden_weights.tensor(name, shape)) if shape else torch.tensor(0)
