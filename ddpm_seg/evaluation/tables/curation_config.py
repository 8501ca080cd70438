"""Settings of jobs.curate."""

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
    """Which samples to use if --samples holds those of several models or options (config=… below samples/). Default:
    those of the newest run."""
    drop_uncertain: float = 0.1
    """Fraction of the samples to drop, starting with the most uncertain."""
    published_filter: bool = False
    """Also drop the 30 most certain samples, as the published code does."""
    ignore_above: float | None = None
    """In the masks that are kept, set pixels whose uncertainty (nats) is above this to 255, without a class."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "samples")
        if not 0 <= self.drop_uncertain < 1:
            raise ValueError(f"--drop-uncertain must be at least 0 and under 1, got {self.drop_uncertain:g}")
        check_least(self, ignore_above=0)
