"""Training options of networks and students, for the flags of jobs.pretrain and jobs.distill. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddpm_seg.checks import check_least, check_positive


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """How a network is trained. The fields are also flags of `jobs.pretrain` and `jobs.pretrain_mae`."""

    iterations: int = 10_000
    """Number of batches to train on."""
    batch_size: int = 32
    """Images per batch, over all workers together."""
    learning_rate: float = 5e-4
    """Peak learning rate; it falls to zero over the last quarter of the iterations. Until that quarter begins, an
    interrupted training can be resumed with another --iterations."""
    ema_decay: float = 0.999
    """Decay of the moving average of the weights; the bundle gets the averaged weights."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the activations; weights and sums stay float32. bfloat16 is faster on GPUs and on CPUs with
    AVX512-BF16."""
    seed: int = 0
    """Seed for the initial weights and for every batch."""

    def __post_init__(self) -> None:
        check_positive(self, "iterations", "batch_size", "learning_rate")
        check_least(self, seed=0)
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")


@dataclass(frozen=True, kw_only=True)
class StudentOptimization:
    """How a student is trained; the defaults are the published ones. The fields are also flags of `jobs.distill`."""

    epochs: int = 20
    """Passes over the samples."""
    batch_size: int = 8
    """Images per batch, over all workers together."""
    learning_rate: float = 1e-3
    """Learning rate of Adam."""
    augment: bool = False
    """Randomly mirror, rotate, scale, shift and recolour the training images. Leave it off if classes tell left from
    right."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the activations; weights and sums stay float32. bfloat16 is faster on GPUs and on CPUs with
    AVX512-BF16."""
    seed: int = 0
    """Seed for the initial weights and the order of the samples."""

    def __post_init__(self) -> None:
        check_positive(self, "epochs", "learning_rate")
        check_least(self, seed=0)
        if self.batch_size < 2:
            raise ValueError(f"batch_size is {self.batch_size}, expected at least 2, for batch normalisation")
