"""Settings of jobs.export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddpm_seg import storage
from ddpm_seg.checks import check_least

Format = Literal["coco", "png", "huggingface", "fiftyone", "label-studio", "cvat"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """Settings of `jobs.export`."""

    labels: str
    """Output of jobs.label: the folder or prefix with labels/ and runs/."""
    to: Format
    """Format to export to."""
    output: str
    """Folder or prefix for the export; it must be empty."""
    most_uncertain: int | None = None
    """Export at most this many images, the most uncertain ones."""
    min_uncertainty: float | None = None
    """Export only images whose uncertainty (nats) is at least this."""
    max_uncertainty: float | None = None
    """Export only images whose uncertainty (nats) is at most this, to train another model on them, say."""
    classes: tuple[str, ...] = ()
    """Export only images that have at least one of these classes."""
    config_hash: str | None = None
    """Which labels to export if --labels holds those of several models or options. Default: those of the newest run."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "labels", "output")
        check_least(self, most_uncertain=1, min_uncertainty=0, max_uncertainty=0)
