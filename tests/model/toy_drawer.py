"""A network that draws an image and gives its maps in one pass, as a GAN does: small, random, and no DDPM."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ddpm_seg.model.device.fitting_batch import FittingBatch
from ddpm_seg.model.device.meta import with_weights
from ddpm_seg.model.device.runtime import Runtime
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.network import Checkpoint
from ddpm_seg.model.networks.pixel_values import from_network
from ddpm_seg.model.networks.plain_network import PlainNetwork
from ddpm_seg.model.samples.drawing import Drawn, in_full_batches
from ddpm_seg.model.samples.sample_noise import SampleNoise
from ddpm_seg.model.samples.sampling import SamplingConfig

SPOILT = 5
"""Number of the sample whose image is not finite."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ToyConfig(PlainNetwork):
    kind: ClassVar[str] = "toy"
    checkpoints: ClassVar[tuple[Checkpoint, ...]] = ()

    image_size: int
    width: int

    @property
    def title(self) -> str:
        return "toy"

    @property
    def block_channels(self) -> list[int]:
        return [self.width, self.width]

    @property
    def block_sides(self) -> list[int]:
        return [self.image_size // 2, self.image_size]

    @property
    def peak_values(self) -> int:
        return 4 * self.width * self.image_size**2

    def published_features(self) -> FeatureConfig:
        return FeatureConfig(steps=(), blocks=(0, 1))

    def build(self) -> Toy:
        return Toy(self.width)

    def drawing(self, sampling: SamplingConfig) -> ToyDrawing:
        sampling.refuse_all_but(ToyDrawing.flags, self.title)
        return ToyDrawing(self)


class Toy(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.coarse = nn.Conv2d(3, width, 4, stride=2, padding=1)
        self.fine = nn.ConvTranspose2d(width, width, 4, stride=2, padding=1)
        self.to_rgb = nn.Conv2d(width, 3, 1)

    def forward(self, z: Tensor) -> tuple[Tensor, list[Tensor]]:
        coarse = self.coarse(z).relu()
        fine = self.fine(coarse).relu()
        return self.to_rgb(fine).tanh(), [coarse, fine]


@dataclass(frozen=True)
class ToyDrawing:
    network: ToyConfig
    flags: ClassVar[tuple[str, ...]] = ()
    sampler: ClassVar[str] = "toy"
    steps: ClassVar[int] = 1

    def settings(self) -> dict[str, Any]:
        return {"toy": 1}

    def details(self) -> dict[str, Any]:
        return {}

    def lines(self) -> dict[str, str]:
        return {"toy": "in one pass"}

    def drawer(
        self, weights: Mapping[str, Tensor], noise: Tensor | None, runtime: Runtime, batch_size: int | None = None
    ) -> ToyDrawer:
        network = with_weights(self.network, weights).to(runtime.device).eval().requires_grad_(False)
        return ToyDrawer(network, self.network.image_size, runtime.device, batch_size or 4)


class ToyDrawer:
    extractor = None

    def __init__(self, network: nn.Module, size: int, device: torch.device, batch_size: int) -> None:
        self.network, self.size, self.device = network, size, device
        self.batch = FittingBatch(batch_size, device, what="toy")

    @property
    def batch_size(self) -> int:
        return self.batch.size

    def draw(self, seed: int, numbers: Sequence[int], features: FeatureConfig | None = None) -> Iterator[Drawn]:
        return in_full_batches(numbers, self.batch, lambda full: self._batch(seed, full, features))

    @torch.inference_mode()
    def _batch(self, seed: int, numbers: Sequence[int], features: FeatureConfig | None) -> Iterator[Drawn]:
        pictures, maps = self.network(SampleNoise(seed, numbers, self.size, self.device)())
        for index, (number, image) in enumerate(zip(numbers, from_network(pictures), strict=True)):
            kept = None if features is None else [maps[block][index : index + 1] for block in sorted(features.blocks)]
            yield Drawn(image=None if number == SPOILT else image, maps=kept)
