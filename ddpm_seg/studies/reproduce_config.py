"""The published benchmarks, and the settings of jobs.reproduce."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.model.published.names import LSUN_FFHQ_256


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """What a task's published experiment file says, and its published score."""

    checkpoint: str
    """File name of the DDPM."""
    training_images: int
    testing_images: int
    miou: float
    """Published mean IoU in per cent, averaged over five training splits."""
    deviation: float
    """Its standard deviation over those splits."""


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


@dataclass(frozen=True, kw_only=True, slots=True)
class ReproduceConfig:
    """Settings of `jobs.reproduce`."""

    datasets: str
    """Folder or URI prefix of DDPM-Seg's published datasets: contains TASK/real/train and TASK/real/test."""
    checkpoints: str
    """Folder or URI prefix of the published DDPM checkpoints: ffhq.pt, lsun_bedroom.pt, lsun_cat.pt, lsun_horse.pt."""
    output: str
    """Folder or URI prefix for models, labels and scores."""
    task: tuple[str, ...] = ()
    """Benchmarks to run: bedroom_28, ffhq_34, cat_15, horse_21, celeba_19 or ade_bedroom_30."""
    all: bool = False
    """Run all six benchmarks, instead of giving --task."""
    members: int = 10
    """Classifiers in each ensemble."""
    iterations: int | None = None
    """Maximum number of batches to train each classifier on. Default: until its loss stops falling, as published."""
    model_flags: str = LSUN_FFHQ_256
    """MODEL_FLAGS that the checkpoints were trained with, as one quoted string. The published ones need no change."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")
        check_least(self, members=1, iterations=1)

    def names(self) -> tuple[str, ...]:
        """Names of the benchmarks to run. Raises ValueError for none or an unknown one."""
        known = ", ".join(BENCHMARKS)
        if self.all == bool(self.task):
            raise ValueError(f"give either --task with some of {known}, or --all for all six")
        if unknown := [name for name in self.task if name not in BENCHMARKS]:
            raise ValueError(f"--task {unknown[0]!r} is not a published benchmark; expected some of {known}")
        return tuple(BENCHMARKS) if self.all else self.task
