"""The settings of jobs.curate."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least


@dataclass(frozen=True, kw_only=True, slots=True)
class CurateConfig:
    """Settings of `jobs.curate`."""

    samples: str
    """Folder or URI prefix that ddpm-seg generate wrote (its --output)."""
    config_hash: str | None = None
    """Choose from the samples of this configuration (HASH of a folder config=HASH under samples/), if --samples holds
    several. Default: the configuration of the newest run."""
    drop_uncertain: float = 0.1
    """Share of the samples to drop, from 0 up to but not including 1; the most uncertain ones are dropped."""
    published_filter: bool = False
    """Drop the 30 samples with the lowest uncertainty too, as the published code does. They count towards
    --drop-uncertain, unless that is 30 samples or fewer."""
    ignore_above: float | None = None
    """In the masks of the samples that are kept, set pixels with a higher uncertainty than this (in nats) to 255, which
    means no class. Default: change no pixels."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "samples")
        if not 0 <= self.drop_uncertain < 1:
            raise ValueError(f"--drop-uncertain must be at least 0 and under 1, got {self.drop_uncertain:g}")
        check_least(self, ignore_above=0)
