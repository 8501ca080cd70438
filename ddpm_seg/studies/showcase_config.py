"""What is drawn: settings of jobs.showcase."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowcaseConfig:
    """Settings of `jobs.showcase`."""

    model: str
    """Name or URI of a trained bundle."""
    images: str
    """Folder of annotated images that no training has seen: X.png beside X.npy. The first eight are drawn."""
    training_images: str
    """Folder of the images that the bundle's DDPM was trained on."""
    output: str
    """Folder for the pictures."""
    seed: int = 0
    """Of the samples: those that jobs.generate draws from it."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")
        check_least(self, seed=0)
