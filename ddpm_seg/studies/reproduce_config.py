"""The published benchmarks, and which of them to run: settings of jobs.reproduce."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.model.published.names import LSUN_FFHQ_256


@dataclass(frozen=True, kw_only=True, slots=True)
class Benchmark:
    """What the published experiment file of a task says, and the published score."""

    checkpoint: str
    """The DDPM's file."""
    training_images: int
    testing_images: int
    miou: float
    """Published mean, in per cent, over five training splits."""
    deviation: float


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
    """The published data folder, with TASK/real/train and TASK/real/test in it."""
    checkpoints: str
    """Folder of the published DDPM checkpoints: ffhq.pt, lsun_bedroom.pt, lsun_cat.pt, lsun_horse.pt."""
    output: str
    """Folder or prefix for models, labels and scores."""
    task: tuple[str, ...] = ()
    """Names of the benchmarks to run."""
    all: bool = False
    """Run all six."""
    members: int = 10
    """Classifiers in each ensemble."""
    iterations: int | None = None
    """Batches after which a member's training ends at the latest. Default: where its loss stops, as published."""
    model_flags: str = LSUN_FFHQ_256
    """MODEL_FLAGS of the checkpoints, should they be others than the published."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")
        check_least(self, members=1, iterations=1)

    def names(self) -> tuple[str, ...]:
        """The benchmarks asked for; ValueError for none or an unknown one."""
        known = ", ".join(BENCHMARKS)
        if self.all == bool(self.task):
            raise ValueError(f"give --task with some of {known}; or --all, alone, for all six")
        if unknown := [name for name in self.task if name not in BENCHMARKS]:
            raise ValueError(f"--task {unknown[0]!r} is not a published benchmark; expected some of {known}")
        return tuple(BENCHMARKS) if self.all else self.task
