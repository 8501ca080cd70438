"""A resident StyleGAN or StyleGAN2 that draws: latents in, images and their maps out."""

# Shapes: N samples of S x S pixels, Z latent width.

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ddpm_seg.model.device.copies import to_device
from ddpm_seg.model.device.fitting_batch import FittingBatch
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.pixel_values import from_network
from ddpm_seg.model.samples.drawing import Drawn, in_full_batches
from ddpm_seg.model.samples.sample_noise import sample_random

MOST_AT_ONCE = 256


class LatentDrawer:
    """Draws samples, and returns their maps from the same pass. If a GPU has too little memory for `batch_size` at
    once, that number is halved from then on.

    A CPU draws one at a time and in one thread, because sums of convolutions depend on the size of a batch and on the
    number of threads, and a sample must not.
    """

    extractor = None

    def __init__(self, network: Any, truncation: float, device: torch.device, batch_size: int) -> None:
        self.network, self.truncation, self.device = network, truncation, device
        self.batch = FittingBatch(1 if device.type == "cpu" else batch_size, device, what="sample")

    @property
    def batch_size(self) -> int:
        return self.batch.size

    def draw(self, seed: int, numbers: Sequence[int], features: FeatureConfig | None = None) -> Iterator[Drawn]:
        """Yields the samples `numbers` of `seed`; see `drawing.Drawer`."""
        blocks = () if features is None else features.blocks
        for image, maps in in_full_batches(numbers, self.batch, lambda full: self._batch(seed, full, blocks)):
            yield Drawn(image=image, maps=None if features is None else maps)

    @torch.inference_mode()
    def _batch(self, seed: int, numbers: Sequence[int], blocks: Sequence[int]) -> Iterator[Drawn]:
        z_NZ = latents(seed, numbers, self.network.latent_width)
        with one_thread(self.device):
            codes = self.network.codes(to_device(z_NZ, self.device), self.truncation)
            pictures, maps = self.network(codes, blocks)
        finite = pictures.isfinite().flatten(1).all(dim=1).tolist()
        for index, image in enumerate(from_network(pictures)):
            own = [one[index : index + 1] for one in maps]
            yield Drawn(image=image if finite[index] else None, maps=own)


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """On a CPU, gives the network of this block one thread."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def latents(seed: int, numbers: Sequence[int], width: int) -> Tensor:
    """(N, Z) float32, standard normal: each sample's from (seed, number) alone."""
    drawn = [sample_random(seed, number).standard_normal(width, dtype=np.float32) for number in numbers]
    return torch.from_numpy(np.stack(drawn))


def default_batch_size(peak_values: int, device: torch.device) -> int:
    """Samples at once: on a GPU as many as half of its memory may hold."""
    if device.type == "cpu":
        return 1
    memory = torch.cuda.get_device_properties(device).total_memory
    return 2 ** int(math.log2(max(1, min(memory // 2 // (4 * peak_values), MOST_AT_ONCE))))
