"""The settings of jobs.showcase."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least


@dataclass(frozen=True, kw_only=True, slots=True)
class ShowcaseConfig:
    """Settings of `jobs.showcase`."""

    model: str
    """Model bundle with a DDPM and an ensemble: packaged name, folder or URI prefix."""
    images: str
    """Folder or URI prefix of annotated images that the model was not trained on, X.png beside X.npy. labels.png shows
    the first eight."""
    training_images: str
    """Folder or URI prefix of the images that the model's DDPM was trained on."""
    output: str
    """Folder or URI prefix to write to."""
    seed: int = 0
    """Random seed of the samples. ddpm-seg generate draws the same ones from it."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")
        check_least(self, seed=0)
