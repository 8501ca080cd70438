"""How networks and students are trained: flags of jobs.pretrain and jobs.distill, without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddpm_seg.checks import check_least, check_positive


@dataclass(frozen=True, kw_only=True)
class Optimization:
    """How a network is trained. The fields are flags of `jobs.pretrain` too."""

    iterations: int = 10_000
    """Batches to train on."""
    batch_size: int = 32
    """Images a batch, over all workers together."""
    learning_rate: float = 5e-4
    """At its peak; it falls to zero over the last quarter of the iterations. Until then --iterations may be changed."""
    ema_decay: float = 0.999
    """Of the moving average of the weights, which is what is kept."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the activations; weights and sums stay float32. bfloat16 is faster on GPUs and on CPUs with AVX512-BF16."""
    seed: int = 0
    """Of the first weights and of every batch."""

    def __post_init__(self) -> None:
        check_positive(self, "iterations", "batch_size", "learning_rate")
        check_least(self, seed=0)
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")


@dataclass(frozen=True, kw_only=True)
class StudentOptimization:
    """How a student is trained; the defaults are the published ones. The fields are flags of `jobs.distill` too."""

    epochs: int = 20
    """Passes over the samples."""
    batch_size: int = 8
    """Images a batch, over all workers together."""
    learning_rate: float = 1e-3
    """Of Adam."""
    augment: bool = False
    """Mirror, turn, scale, shift and recolour what is trained on; not where classes tell left from right."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the activations; weights and sums stay float32. bfloat16 is faster on GPUs and on CPUs with AVX512-BF16."""
    seed: int = 0
    """Of the first weights and of the order of the samples."""

    def __post_init__(self) -> None:
        check_positive(self, "epochs", "learning_rate")
        check_least(self, seed=0)
        if self.batch_size < 2:
            raise ValueError(f"batch_size is {self.batch_size}, expected at least 2: batch normalisation needs them")
