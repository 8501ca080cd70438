"""How networks and students are trained: flags of jobs.pretrain, jobs.pretrain_mae and jobs.distill. No torch here."""

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
    """Images per batch, summed over all workers."""
    learning_rate: float = 5e-4
    """Peak learning rate. It stays constant until it falls to zero over the last quarter of the iterations; until then
    you may stop and continue with another --iterations."""
    ema_decay: float = 0.999
    """Decay per iteration of the moving average of the weights, from 0 up to but not including 1. The bundle holds the
    averaged weights."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the activations; weights and sums stay float32. bfloat16 is faster on GPUs and on CPUs with
    AVX512-BF16, but takes 12 times as long on CPUs with AVX2 alone."""
    seed: int = 0
    """Random seed for the initial weights and for every batch."""

    def __post_init__(self) -> None:
        check_positive(self, "iterations", "batch_size", "learning_rate")
        check_least(self, seed=0)
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")


@dataclass(frozen=True, kw_only=True)
class StudentOptimization:
    """How a student is trained; the defaults are the published ones. The fields are also flags of `jobs.distill`."""

    epochs: int = 20
    """Number of passes over the training images."""
    batch_size: int = 8
    """Images per batch, summed over all workers."""
    learning_rate: float = 1e-3
    """Learning rate of the Adam optimizer."""
    augment: bool = False
    """Randomly mirror, rotate, scale, shift and recolour the training images. Leave this off if classes distinguish
    left from right and the task does not name their mirror_pairs."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the activations; weights and sums stay float32. bfloat16 is faster on GPUs and on CPUs with
    AVX512-BF16, but takes 12 times as long on CPUs with AVX2 alone."""
    seed: int = 0
    """Random seed for the initial weights and the order of the training images."""

    def __post_init__(self) -> None:
        check_positive(self, "epochs", "learning_rate")
        check_least(self, seed=0)
        if self.batch_size < 2:
            raise ValueError(f"batch_size is {self.batch_size}, expected at least 2, for batch normalisation")
