"""Another side of the square that a network takes images at: a UNet's layers fit any multiple of its stride."""

from __future__ import annotations

import dataclasses

import torch

from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.networks.diffusion.ddpm import DDPMConfig


def at_side(bundle: Bundle, side: int) -> Bundle:
    """`bundle` for images of `side` x `side` pixels, with a noise of that size and without its ensemble; itself if that
    is its side already.

    Raises ValueError for a network other than a DDPM's UNet, and a side that its strides do not divide.
    """
    network = bundle.network
    if side == network.image_size:
        return bundle
    if not isinstance(network, DDPMConfig):
        title = network.title
        raise ValueError(f"only a DDPM takes images of another side, and this is a {title}: leave out --image-size")
    network = dataclasses.replace(network, unet=network.unet.at_side(side))
    noise = torch.randn(network.noise_shape, generator=torch.Generator().manual_seed(0))
    return dataclasses.replace(bundle, network=network, noise=noise, members=(), calibration=None, domain=None)
