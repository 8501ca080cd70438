"""The resident model: images in, labels out; one object, one device."""

# Shapes: N images of S x S pixels, S the network's size; K classes.

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ddpm_seg.model.bundle import Bundle
from ddpm_seg.model.bundle_files import BundleError
from ddpm_seg.model.compiled import compiled
from ddpm_seg.model.device_copies import to_device, to_host
from ddpm_seg.model.diffusion import Diffusion
from ddpm_seg.model.ensemble import Ensemble
from ddpm_seg.model.features import extract
from ddpm_seg.model.int8 import to_int8
from ddpm_seg.model.pixel_labels import PixelLabels
from ddpm_seg.model.unet import UNet, UNetConfig
from ddpm_seg.model.voting import Votes

DType = Literal["float32", "bfloat16", "float16"]
SegmentDType = Literal["float32", "bfloat16", "float16", "int8"]
"""int8: the convolutions in 8-bit integers, on CPUs alone."""

CPU_ACTIVATION_BYTES = 2**30
MAX_MICRO_BATCH = {"cpu": 32, "cuda": 256}

logger = logging.getLogger(__name__)


class Segmenter:
    """UNet and ensemble of a bundle, loaded once.

    `dtype` is the type of the UNet's convolutions; the ensemble always runs in float32. int8 (the rest of the network
    in bfloat16) is for CPUs with VNNI; elsewhere it raises ValueError. `batch_size` bounds how many (image, step) pairs
    go through the UNet at once; by default as many as fit in memory. Where a GPU's memory proves too small, that number
    is halved, for good. `compile`: as of `compiled`, for the UNet.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str | None = None,
        dtype: SegmentDType = "float32",
        batch_size: int | None = None,
        compile: bool = False,
    ) -> None:
        if bundle.features is None or bundle.task is None or not bundle.members:
            raise BundleError("this bundle holds a DDPM without an ensemble; train one with `python -m jobs.train`")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.task = bundle.task
        self.image_size = bundle.unet.image_size
        self.features = bundle.features
        self.diffusion = Diffusion(bundle.diffusion)
        self.unet = resident_unet(bundle, self.device, dtype, compile=compile)
        self.noise = bundle.noise.to(self.device)
        self.ensemble = Ensemble(
            bundle.members,
            channels=self.features.channels(bundle.unet),
            strides=self.features.strides(bundle.unet),
            upsample_mode=self.features.upsample_mode,
            device=self.device,
        )
        self.micro_batch = batch_size or _fitting_micro_batch(bundle.unet, _activations(dtype).itemsize, self.device)

    def segment(self, images: np.ndarray) -> list[PixelLabels]:
        """Labels for `images` (N, S, S, 3) uint8 RGB, in order. Batch size changes nothing but rounding.

        Raises torch.OutOfMemoryError where a GPU has no memory even for one (image, step) pair at a time.
        """
        found = (
            {"label": votes.label, "uncertainty": votes.uncertainty, "confidence": votes.confidence}
            for votes in self._votes(images)
        )
        return [PixelLabels(**arrays) for arrays in to_host(found, self.device)]

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """The members' mean softmax (K, S, S) float32 for one `image` (S, S, 3) uint8."""
        return next(self._votes(image[None])).probabilities.cpu().numpy()

    @torch.inference_mode()
    def _votes(self, images: np.ndarray) -> Iterator[Votes]:
        size = self.image_size
        if images.ndim != 4 or images.shape[1:] != (size, size, 3) or images.dtype != np.uint8:
            raise ValueError(f"images must be (N, {size}, {size}, 3) uint8, got {images.shape} {images.dtype}")
        done = 0
        while done < len(images):
            group = max(1, self.micro_batch // len(self.features.steps))
            try:
                for votes in self._votes_of_group(images[done : done + group]):
                    yield votes
                    done += 1
                continue
            except torch.OutOfMemoryError as error:
                message = str(error)
            # Outside `except`, where the traceback keeps what the failed batch holds.
            self._halve_micro_batch(message)

    def _votes_of_group(self, images: np.ndarray) -> Iterator[Votes]:
        x_0 = to_network(images, self.device)
        maps = extract(self.unet, self.diffusion, x_0, self.noise, self.features, micro_batch=self.micro_batch)
        yield from self.ensemble(maps, (self.image_size, self.image_size))

    def _halve_micro_batch(self, message: str) -> None:
        size, name = self.image_size, torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        if self.micro_batch == 1:
            raise torch.OutOfMemoryError(f"{name} has no memory for one {size} x {size} image at a time: {message}")
        self.micro_batch //= 2
        torch.cuda.empty_cache()
        logger.warning("out of memory on %s: from now on at most %d at a time", name, self.micro_batch)


def to_network(images: np.ndarray, device: torch.device | str) -> Tensor:
    """(N, H, W, 3) uint8 to (N, 3, H, W) float32 in [-1, 1], rounded as the published ToTensor and 2x - 1."""
    x = to_device(torch.from_numpy(np.ascontiguousarray(images)), device).permute(0, 3, 1, 2)
    return x.float() / 255 * 2 - 1


def from_network(x: Tensor) -> np.ndarray:
    """(N, 3, H, W) float32 in [-1, 1] to (N, H, W, 3) uint8: the nearest picture."""
    return ((x + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()


def resident_unet(
    bundle: Bundle, device: torch.device | str, dtype: SegmentDType = "float32", *, compile: bool = False
) -> UNet:
    """The bundle's UNet in evaluation mode, its tensors taken over rather than copied where types agree."""
    with torch.device("meta"):
        unet = UNet(bundle.unet)
    unet.load_state_dict({key: value.float() for key, value in bundle.unet_weights.items()}, assign=True)
    if dtype == "int8":
        to_int8(unet, torch.device(device))
    if dtype != "float32":
        unet.cast_torso(_activations(dtype))
    unet.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compile:
        unet.decode = compiled(unet.decode)  # type: ignore[method-assign]
    return unet.eval().requires_grad_(False)


def _activations(dtype: SegmentDType) -> torch.dtype:
    """The type of what is between the convolutions."""
    return torch.bfloat16 if dtype == "int8" else getattr(torch, dtype)


def _fitting_micro_batch(config: UNetConfig, itemsize: int, device: torch.device) -> int:
    """(image, step) pairs whose activations fit: about eight feature maps of the first level are alive at the peak."""
    bytes_per_pair = 8 * config.channels(0) * config.image_size**2 * itemsize
    budget = CPU_ACTIVATION_BYTES if device.type == "cpu" else torch.cuda.mem_get_info(device)[0] // 2
    return int(max(1, min(budget // bytes_per_pair, MAX_MICRO_BATCH.get(device.type, 1))))
