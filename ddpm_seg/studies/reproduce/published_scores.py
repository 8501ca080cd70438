"""The table of the paper (Baranchuk et al., ICLR 2022, table 2), with the figures of the published repository."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

NetworkName = Literal[
    "ddpm",
    "mae",
    "swav",
    "swav-w2",
    "vdvae",
    "alae",
    "gan-inversion",
    "gan-encoder",
    "dataset-ddpm",
    "dataset-gan",
]
"""A row of the table."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """What a task's published experiment file says, and the published score of the DDPM."""

    checkpoint: str
    """File name of the DDPM."""
    training_images: int
    testing_images: int
    miou: float
    """Published mean IoU in per cent, averaged over five training splits."""
    deviation: float
    """Its standard deviation over those splits."""

    @property
    def images(self) -> str:
        """What the networks were trained on; the checkpoints of all networks are named after it."""
        return self.checkpoint.removesuffix(".pt")


BENCHMARKS = {
    "bedroom_28": Benchmark(
        checkpoint="lsun_bedroom.pt", training_images=40, testing_images=20, miou=49.4, deviation=1.9
    ),
    "ffhq_34": Benchmark(checkpoint="ffhq.pt", training_images=20, testing_images=20, miou=59.1, deviation=1.4),
    "cat_15": Benchmark(checkpoint="lsun_cat.pt", training_images=30, testing_images=20, miou=53.7, deviation=3.3),
    "horse_21": Benchmark(checkpoint="lsun_horse.pt", training_images=30, testing_images=30, miou=65.0, deviation=0.8),
    "celeba_19": Benchmark(checkpoint="ffhq.pt", training_images=20, testing_images=500, miou=59.9, deviation=1.0),
    "ade_bedroom_30": Benchmark(
        checkpoint="lsun_bedroom.pt", training_images=50, testing_images=650, miou=34.6, deviation=1.7
    ),
}

_OTHERS = {
    "mae": "45.0 2.0 | 58.8 1.1 | 52.4 2.3 | 63.4 1.4 | 57.8 0.4 | 31.7 1.8",
    "swav": "41.0 2.3 | 54.7 1.4 | 44.1 2.1 | 51.7 0.5 | 53.2 1.0 | 30.3 1.5",
    "swav-w2": "42.4 1.7 | 56.9 1.3 | 45.1 2.1 | 54.0 0.9 | 52.4 1.3 | 30.6 1.0",
    "vdvae": "- | 57.3 1.1 | - | - | 54.1 1.0 | -",
    "alae": "20.0 1.0 | 48.1 1.3 | - | - | 49.7 0.7 | 15.0 0.5",
    "gan-inversion": "13.9 0.6 | 51.7 0.8 | 21.4 1.7 | 17.7 0.4 | 51.5 2.3 | 11.1 0.2",
    "gan-encoder": "22.4 1.6 | 53.9 1.3 | 32.0 1.8 | 26.7 0.7 | 53.9 0.8 | 15.7 0.3",
    "dataset-ddpm": "47.9 2.9 | 56.0 0.9 | 47.6 1.5 | 60.8 1.0 | - | -",
    "dataset-gan": "31.3 2.7 | 57.0 1.0 | 36.5 2.3 | 45.4 1.4 | - | -",
}
"""The other rows: mean IoU and deviation in per cent, in the order of BENCHMARKS."""


def published_score(network: NetworkName, task: str) -> tuple[float, float] | None:
    """Published mean IoU and its deviation over five splits, in [0, 1]; None where the paper has none."""
    if network == "ddpm":
        return BENCHMARKS[task].miou / 100, BENCHMARKS[task].deviation / 100
    cell = _OTHERS[network].split(" | ")[list(BENCHMARKS).index(task)]
    if cell == "-":
        return None
    miou, deviation = map(float, cell.split())
    return miou / 100, deviation / 100
