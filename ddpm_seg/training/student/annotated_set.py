"""Batches of annotated images that are held in memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ddpm_seg.training.student.sample_stream import Batch


class AnnotatedSet:
    """Images (N, S, S, 3) and labels (N, S, S), uint8, in memory; an epoch passes over them `repeat` times."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.uint8], repeat: int) -> None:
        self.images, self.labels, self.repeat = images, labels, repeat

    def num_batches(self, seed: int, epoch: int, share: int, world_size: int) -> int:
        """Number of batches per epoch and worker, of `share` images each. Raises ValueError if there are too few for
        one."""
        batches = self.repeat * len(self.images) // (share * world_size)
        if not batches:
            raise ValueError(f"{len(self.images)} images are fewer than a batch of {share * world_size}")
        return batches

    def batches(self, seed: int, epoch: int, share: int, rank: int, world_size: int) -> Iterator[Batch]:
        """Yields this worker's batches of `share` images, `num_batches` of them."""
        rng = np.random.default_rng((seed, epoch))
        order = np.concatenate([rng.permutation(len(self.images)) for _ in range(self.repeat)])
        for number in range(self.num_batches(seed, epoch, share, world_size)):
            own = order[number * share * world_size :][rank : share * world_size : world_size]
            yield self.images[own], self.labels[own]
