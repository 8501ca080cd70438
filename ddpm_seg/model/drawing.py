"""What draws images: a network on a device that makes sample `number` of `seed`, and what a run must know of it."""

# Shapes: a sample has S x S pixels; C channels, h x w a map's own resolution.

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from torch import Tensor

from ddpm_seg.model.device.fitting_batch import FittingBatch
from ddpm_seg.model.device.runtime import Runtime
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.features import Extractor, FeatureConfig

T = TypeVar("T")


class Drawn(NamedTuple):
    """One sample."""

    image: np.ndarray | None
    """(S, S, 3) uint8 RGB; None where the network's output is not finite."""
    maps: list[Tensor] | None
    """Its features from the pass that drew it, each (1, C, h, w) in the order of an `Extractor`; None if not asked for,
    or where features come from a look at the image (`Drawer.extractor`)."""


class Drawer(Protocol):
    """A network on a device, ready to draw."""

    @property
    def batch_size(self) -> int:
        """Samples drawn at once."""

    @property
    def extractor(self) -> Extractor | None:
        """Reads features of images with the same weights; None where `draw` gives them with the image."""

    def draw(self, seed: int, numbers: Sequence[int], features: FeatureConfig | None = None) -> Iterator[Drawn]:
        """Samples `numbers` of `seed`, in order, drawn as they are asked for.

        A sample depends on (seed, number) alone: draw its noise from `SampleNoise`, and all batches full, as
        `in_full_batches` does. Raises torch.OutOfMemoryError where a GPU has no memory even for one at a time.
        """


class Drawing(Protocol):
    """How a network draws in one run: the flags of jobs.generate, as its kind takes them."""

    @property
    def sampler(self) -> str:
        """Column `sampler` of the samples."""

    @property
    def steps(self) -> int:
        """Passes through the network for a sample: column `sampling_steps`."""

    def settings(self) -> Mapping[str, Any]:
        """What can change a pixel beside the model and its number format, as JSON: `config_hash` is made of it."""

    def details(self) -> Mapping[str, Any]:
        """What run.json says of it, as JSON."""

    def lines(self) -> Mapping[str, str]:
        """What --dry-run shows of it, by a short title."""

    def drawer(
        self, weights: Mapping[str, Tensor], noise: Tensor | None, runtime: Runtime, batch_size: int | None = None
    ) -> Drawer:
        """The bundle's network on its device. By default as many samples at once as may fit."""


def in_full_batches(
    numbers: Sequence[int], batch: FittingBatch, draw: Callable[[Sequence[int]], Iterable[T]]
) -> Iterator[T]:
    """What `draw` gives for each of `numbers`, in order. It gets as many numbers as `batch` says always, the last one
    repeated: so a sample's bytes do not depend on how many are asked for."""

    def drawn(first: int, size: int) -> Iterator[T]:
        wanted = list(numbers[first : first + size])
        filled = draw(wanted + wanted[-1:] * (size - len(wanted)))
        return (one for one, _ in zip(filled, wanted, strict=False))

    return batch.run(len(numbers), drawn)


def cannot_draw(title: str) -> BundleError:
    """What a network, a `title`, raises that draws no images."""
    return BundleError(
        f"this needs a network that draws images, such as a DDPM, and the bundle holds a {title}; give one that "
        "jobs.pretrain or jobs.convert --ddpm wrote, or that was trained on it"
    )
