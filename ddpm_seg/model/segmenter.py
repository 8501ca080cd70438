"""A resident network with its ensemble, on one device: images in, labels out."""

# Shapes: N images of S x S pixels, the network's size; K classes.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.device.choice import chosen_device
from ddpm_seg.model.device.copies import to_host
from ddpm_seg.model.device.dtypes import DType, activations
from ddpm_seg.model.device.fitting_batch import FittingBatch, fitting_pairs
from ddpm_seg.model.domain import Domain
from ddpm_seg.model.ensemble import Ensemble
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.features import Extractor
from ddpm_seg.model.network import drawn_images_only
from ddpm_seg.model.pixel_labels import PixelLabels
from ddpm_seg.model.resident import resident_extractor
from ddpm_seg.model.voting import Votes


class Segmenter:
    """Network and ensemble of a bundle, loaded once.

    `dtype` is the type of the network's convolutions, and on a GPU of the ensemble's products; on a CPU the ensemble
    always runs in float32. int8 (with the rest of a
    DDPM's network in bfloat16) needs a CPU with VNNI, else it raises ValueError. `batch_size` limits how many (image,
    step) pairs go through the network at once; by default as many as fit in memory. If a GPU has too little memory,
    that number is halved from then on. `compile` runs the network through torch.compile (see `compiled`). `extractor`
    is the network, if it is resident already. A network that gives features only of images that it draws has no
    extractor: pass its maps to `segment_maps`.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str | None = None,
        dtype: DType = "float32",
        batch_size: int | None = None,
        compile: bool = False,
        extractor: Extractor | None = None,
    ) -> None:
        if bundle.features is None or bundle.task is None or not bundle.members:
            raise BundleError(
                f"this bundle holds a {bundle.network.title} without an ensemble; train one with `ddpm-seg train`"
            )
        self.device = chosen_device(device)
        self.task = bundle.task
        self.image_size = bundle.network.image_size
        self.features = bundle.features
        self.network = bundle.network
        if extractor is None and bundle.network.reads_images:
            extractor = resident_extractor(bundle, self.device, dtype, compile=compile)
        self.extractor = extractor
        self.ensemble = Ensemble(
            bundle.members,
            channels=self.features.channels(bundle.network),
            sides=self.features.sides(bundle.network),
            upsample_mode=self.features.upsample_mode,
            device=self.device,
            gpu_dtype=activations(dtype),
        )
        calibration = bundle.calibration
        self.temperatures = torch.tensor(calibration.temperatures, device=self.device) if calibration else None
        self.domain = Domain(bundle.domain.to(self.device)) if bundle.domain is not None else None
        if batch_size is None:
            batch_size = fitting_pairs(bundle.network.peak_values, activations(dtype).itemsize, self.device)
        self.batch = FittingBatch(batch_size, self.device, what=f"{self.image_size} x {self.image_size} image")

    def segment(self, images: NDArray[np.uint8]) -> list[PixelLabels]:
        """Labels for `images` (N, S, S, 3) uint8 RGB, in order. The batch size changes only rounding.

        Raises torch.OutOfMemoryError if a GPU has too little memory even for one (image, step) pair.
        """
        return self._labels(self.votes(images))

    @torch.inference_mode()
    def segment_maps(self, maps: Sequence[Tensor]) -> list[PixelLabels]:
        """Labels of N images from their maps, each (N, C, h, w), in the order of `features.Extractor`."""
        return self._labels(self.ensemble(maps, (self.image_size, self.image_size)))

    def probabilities(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Softmax (K, S, S) float32 for one `image` (S, S, 3) uint8, averaged over the members."""
        return self.calibrated(next(self.votes(image[None]))).probabilities.cpu().numpy()

    @torch.inference_mode()
    def votes(self, images: NDArray[np.uint8]) -> Iterator[Votes]:
        """Yields the votes for each of `images` (N, S, S, 3) uint8, before calibration. Raises like `segment`."""
        size = self.image_size
        if images.ndim != 4 or images.shape[1:] != (size, size, 3) or images.dtype != np.uint8:
            raise ValueError(f"images must be (N, {size}, {size}, 3) uint8, got {images.shape} {images.dtype}")

        extractor = self.extractor
        if extractor is None:
            raise drawn_images_only(self.network.title)

        def votes_from(first: int, micro_batch: int) -> Iterator[Votes]:
            group = images[first : first + max(1, micro_batch // self.features.passes)]
            maps = extractor(group, self.features, micro_batch=micro_batch)
            return self._with_distances(self.ensemble(maps, (size, size)), maps)

        yield from self.batch.run(len(images), votes_from)

    def _with_distances(self, votes: Iterator[Votes], maps: Sequence[Tensor]) -> Iterator[Votes]:
        if self.domain is None:
            return votes
        distances = self.domain.distances(maps)
        return (replace(one, domain_distance=distance) for one, distance in zip(votes, distances, strict=True))

    def _labels(self, votes: Iterator[Votes]) -> list[PixelLabels]:
        found = (self.calibrated(one).arrays() for one in votes)
        return [PixelLabels(**arrays) for arrays in to_host(found, self.device)]

    def calibrated(self, votes: Votes) -> Votes:
        """`votes` with the bundle's calibration; unchanged if it has none."""
        return votes if self.temperatures is None else votes.calibrated(self.temperatures)
