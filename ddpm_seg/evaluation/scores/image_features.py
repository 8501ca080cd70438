"""One feature vector per image, for distances between sets of images."""

# Shapes: N images of S x S pixels, D features.

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.published.state_dicts import reason, refuse_no_checkpoint
from ddpm_seg.model.resident import resident_extractor
from ddpm_seg.progress import track

ImageFeatures = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Images (N, S, S, 3) uint8 to features (N, D) float32."""

TIMESTEP = 50  # of 1000: little noise, but the network still has to recognise the image under it
BATCH = 16


def activation_features(bundle: Bundle, device: str) -> ImageFeatures:
    """Features from the model's own network: activations of the last block at each resolution, a DDPM's at timestep 50
    of 1000, averaged over the image. Distances from different networks cannot be compared."""
    extract, network = resident_extractor(bundle, device), bundle.network
    steps = (TIMESTEP * network.timesteps // 1000,) if network.timesteps else ()
    config = FeatureConfig(steps=steps, blocks=last_blocks(network.block_sides))

    @torch.inference_mode()
    def features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return torch.cat([one.mean(dim=(2, 3)) for one in extract(images, config)], dim=1).float().cpu().numpy()

    return _in_batches(features)


def torchscript_features(uri: str, device: str) -> ImageFeatures:
    """Features from the user's own network: a TorchScript file that maps images (N, 3, H, W) uint8 to features (N, D),
    such as the Inception network of the usual FID. Raises ValueError if `uri` is not such a file."""
    file, name = io.BytesIO(storage.read_bytes(uri)), storage.redact(uri)
    refuse_no_checkpoint(file, name)
    try:
        network = torch.jit.load(file, map_location=device).eval()
    # torch raises almost anything for a damaged file.
    except Exception as error:
        raise ValueError(f"{name} is not a TorchScript file: {reason(error)}") from error
    # The file of the usual FID returns class scores unless asked for features.
    names = [argument.name for argument in network.forward.schema.arguments]
    asked = {"return_features": True} if "return_features" in names else {}

    @torch.inference_mode()
    def features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        x = torch.from_numpy(np.require(images, requirements=("C", "W"))).to(device).permute(0, 3, 1, 2)
        return network(x, **asked).flatten(1).float().cpu().numpy()

    return _in_batches(features)


def last_blocks(sides: Sequence[int]) -> tuple[int, ...]:
    """The last decoder block of each resolution, in ascending order."""
    last = {side: block for block, side in enumerate(sides)}
    return tuple(sorted(last.values()))


def _in_batches(features: ImageFeatures) -> ImageFeatures:
    def all_features(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        starts = track(range(0, len(images), BATCH), "features", unit="batches")
        return np.concatenate([features(images[start : start + BATCH]) for start in starts])

    return all_features
