"""A resident student that labels images, like `Segmenter`."""

# Shapes: N images of S x S pixels, S the network's size; K classes.

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_seg.model.bundle.student_bundle import StudentBundle
from ddpm_seg.model.device.choice import chosen_device
from ddpm_seg.model.device.compiled import compiled
from ddpm_seg.model.device.copies import to_host
from ddpm_seg.model.device.dtypes import FloatDType
from ddpm_seg.model.device.fitting_batch import FittingBatch
from ddpm_seg.model.device.meta import with_weights
from ddpm_seg.model.device.processor import prepare
from ddpm_seg.model.networks.pixel_values import to_imagenet
from ddpm_seg.model.pixel_labels import PixelLabels
from ddpm_seg.model.voting import Votes

BATCH_SIZE = {"cpu": 8, "cuda": 64}


class StudentSegmenter:
    """The network of a student's bundle, loaded once. `dtype` is the type of its convolutions.

    If a GPU has too little memory for `batch_size` images, that number is halved from then on. `compile` runs the
    network through torch.compile (see `compiled`).
    """

    def __init__(
        self,
        bundle: StudentBundle,
        *,
        device: str | None = None,
        dtype: FloatDType = "float32",
        batch_size: int | None = None,
        compile: bool = False,
    ) -> None:
        self.device = chosen_device(device)
        prepare(self.device, dtype)
        self.task, self.image_size, self.dtype = bundle.task, bundle.student.image_size, getattr(torch, dtype)
        network = with_weights(bundle.student, bundle.weights)
        network.to(self.device, self.dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.eval().requires_grad_(False)
        self.network = compiled(network) if compile else network
        if batch_size is None:
            batch_size = BATCH_SIZE.get(self.device.type, 1)
        self.batch = FittingBatch(batch_size, self.device, what=f"{self.image_size} x {self.image_size} image")

    def segment(self, images: NDArray[np.uint8]) -> list[PixelLabels]:
        """Labels for `images` (N, S, S, 3) uint8 RGB, in order; a pixel's uncertainty is the entropy of its softmax.

        Raises torch.OutOfMemoryError if a GPU has too little memory even for one image.
        """
        found = (votes.arrays() for votes in self.votes(images))
        return [PixelLabels(**arrays) for arrays in to_host(found, self.device)]

    def votes(self, images: NDArray[np.uint8]) -> Iterator[Votes]:
        """Yields the answer for each of `images` (N, S, S, 3) uint8. Raises like `segment`."""
        return (_vote(p_KSS) for p_KSS in self._probabilities(images))

    def calibrated(self, votes: Votes) -> Votes:
        """`votes` themselves: a student is not calibrated."""
        return votes

    def probabilities(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Softmax (K, S, S) float32 for one `image` (S, S, 3) uint8."""
        return next(self._probabilities(image[None])).cpu().numpy()

    @torch.inference_mode()
    def _probabilities(self, images: NDArray[np.uint8]) -> Iterator[Tensor]:
        size = self.image_size
        if images.ndim != 4 or images.shape[1:] != (size, size, 3) or images.dtype != np.uint8:
            raise ValueError(f"images must be (N, {size}, {size}, 3) uint8, got {images.shape} {images.dtype}")

        def softmax_from(first: int, size: int) -> Tensor:
            x = to_imagenet(images[first : first + size], self.device).to(self.dtype)
            return self.network(x.contiguous(memory_format=torch.channels_last)).float().softmax(dim=1)

        yield from self.batch.run(len(images), softmax_from)


def _vote(p_KSS: Tensor) -> Votes:
    confidence, label = p_KSS.max(dim=0)
    return Votes(
        label=label.to(torch.uint8),
        uncertainty=torch.special.entr(p_KSS).sum(dim=0),
        confidence=confidence,
        probabilities=p_KSS.float(),
    )
