"""Annotated images in memory as batches to train on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ddpm_seg.training.student.sample_stream import Batch


class AnnotatedSet:
    """Annotated images in memory, each `repeat` times an epoch: (N, S, S, 3) and (N, S, S) uint8."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, repeat: int) -> None:
        self.images, self.labels, self.repeat = images, labels, repeat

    def num_batches(self, seed: int, epoch: int, share: int, world_size: int) -> int:
        """Of `share` images each, for every worker. Raises ValueError for none."""
        batches = self.repeat * len(self.images) // (share * world_size)
        if not batches:
            raise ValueError(f"{len(self.images)} images are fewer than a batch of {share * world_size}")
        return batches

    def batches(self, seed: int, epoch: int, share: int, rank: int, world_size: int) -> Iterator[Batch]:
        """This worker's `num_batches` batches of `share` images."""
        rng = np.random.default_rng((seed, epoch))
        order = np.concatenate([rng.permutation(len(self.images)) for _ in range(self.repeat)])
        for number in range(self.num_batches(seed, epoch, share, world_size)):
            own = order[number * share * world_size :][rank : share * world_size : world_size]
            yield self.images[own], self.labels[own]
