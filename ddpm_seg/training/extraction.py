"""Activations of annotated images, to train on: each image once through the UNet."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from tqdm import tqdm

from ddpm_seg.data.annotations import Annotation
from ddpm_seg.model.bundle import Bundle
from ddpm_seg.model.diffusion import Diffusion
from ddpm_seg.model.features import FeatureConfig, extract
from ddpm_seg.model.segmenter import resident_unet, to_network
from ddpm_seg.training.pixel_features import PixelFeatures


@torch.inference_mode()
def extract_features(
    bundle: Bundle, annotations: Sequence[Annotation], features: FeatureConfig, device: str
) -> PixelFeatures:
    """Native-resolution activations of every annotated image, kept in memory on `device`."""
    unet, diffusion, noise = resident_unet(bundle, device), Diffusion(bundle.diffusion), bundle.noise.to(device)
    stored = PixelFeatures(
        num_images=len(annotations), image_size=bundle.unet.image_size, mode=features.upsample_mode, device=device
    )
    for index, annotation in enumerate(tqdm(annotations, desc="features", unit="image", disable=None)):
        x_0 = to_network(annotation.image[None], device)
        # One (image, step) pair at a time bounds the memory; few images leave little to gain from batches.
        stored.store(index, extract(unet, diffusion, x_0, noise, features, micro_batch=1))
    return stored
