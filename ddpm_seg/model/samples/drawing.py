"""Interfaces for drawing images: a network on a device that makes sample `number` of `seed`, and a run's record of
it."""

# Shapes: a sample has S x S pixels; C channels, h x w a map's own resolution.

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ddpm_seg.model.device.fitting_batch import FittingBatch
from ddpm_seg.model.device.runtime import Runtime
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.features import Extractor, FeatureConfig

T = TypeVar("T")


class Drawn(NamedTuple):
    """One sample."""

    image: NDArray[np.uint8] | None
    """(S, S, 3) uint8 RGB; None if the network's output is not finite."""
    maps: list[Tensor] | None
    """The sample's features from the pass that drew it, each (1, C, h, w) in the order of an `Extractor`. None if not
    asked for, or if features are read from the finished image (`Drawer.extractor`)."""


class Drawer(Protocol):
    """A network on a device, ready to draw."""

    @property
    def batch_size(self) -> int:
        """Number of samples drawn at once."""

    @property
    def extractor(self) -> Extractor | None:
        """Reads features of images with the same weights; None if `draw` gives them along with the image."""

    def draw(self, seed: int, numbers: Sequence[int], features: FeatureConfig | None = None) -> Iterator[Drawn]:
        """Yields the samples `numbers` of `seed`, in order, drawing them as needed.

        A sample must depend on (seed, number) alone: draw its noise from `SampleNoise`, and keep all batches full with
        `in_full_batches`. Raises torch.OutOfMemoryError if a GPU has too little memory even for one sample.
        """


class Drawing(Protocol):
    """How a network draws in one run: the flags of jobs.generate that apply to it."""

    @property
    def flags(self) -> Collection[str]:
        """The fields of `SamplingConfig`, which are flags of jobs.generate, that it has: a manifest keeps no others."""

    @property
    def sampler(self) -> str:
        """Value of the samples' column `sampler`."""

    @property
    def steps(self) -> int:
        """Passes through the network per sample, the column `sampling_steps`."""

    def settings(self) -> Mapping[str, Any]:
        """Everything that can change a pixel, besides the model and its number format, as JSON; part of
        `config_hash`."""

    def details(self) -> Mapping[str, Any]:
        """What run.json records about it, as JSON."""

    def lines(self) -> Mapping[str, str]:
        """What --dry-run prints about it, by short title."""

    def drawer(
        self, weights: Mapping[str, Tensor], noise: Tensor | None, runtime: Runtime, batch_size: int | None = None
    ) -> Drawer:
        """The bundle's network on its device, ready to generate images, `batch_size` at a time: by default as many as
        should fit into memory."""


def in_full_batches(
    numbers: Sequence[int], batch: FittingBatch, draw: Callable[[Sequence[int]], Iterable[T]]
) -> Iterator[T]:
    """Yields what `draw` returns for each of `numbers`, in order. `draw` always gets as many numbers as `batch` allows,
    by repeating the last one, so that a sample's bytes do not depend on how many are asked for."""

    def drawn(first: int, size: int) -> Iterator[T]:
        wanted = list(numbers[first : first + size])
        filled = draw(wanted + wanted[-1:] * (size - len(wanted)))
        return (one for one, _ in zip(filled, wanted, strict=False))

    return batch.run(len(numbers), drawn)


def cannot_draw(title: str) -> BundleError:
    """The error of a network that cannot draw images; `title` names it in the message."""
    return BundleError(
        f"this needs a network that draws images, such as a DDPM, and the bundle holds a {title}; give one that "
        "ddpm-seg pretrain or ddpm-seg convert --ddpm wrote, or that was trained on it"
    )
