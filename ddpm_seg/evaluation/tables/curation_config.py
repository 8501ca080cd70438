"""Which samples are kept."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least


@dataclass(frozen=True, kw_only=True, slots=True)
class CurateConfig:
    """Settings of `jobs.curate`."""

    samples: str
    """An --output of jobs.generate."""
    config_hash: str | None = None
    """Whose samples, where those of several models or options are there (config=… under samples/); by default those of
    the newest run."""
    drop_uncertain: float = 0.1
    """Share of the samples to drop, the most uncertain ones."""
    published_filter: bool = False
    """Drop the 30 most certain samples too, as the published code does."""
    ignore_above: float | None = None
    """In the masks of what is left, mark pixels of more uncertainty than this (nats) as 255, without a class."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "samples")
        if not 0 <= self.drop_uncertain < 1:
            raise ValueError(f"--drop-uncertain must be a share of at least 0 and under 1, got {self.drop_uncertain:g}")
        check_least(self, ignore_above=0)
