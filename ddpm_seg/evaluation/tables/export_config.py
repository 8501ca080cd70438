"""Which labels are exported, and in which format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddpm_seg import storage
from ddpm_seg.checks import check_least

Format = Literal["coco", "png", "huggingface", "fiftyone", "label-studio", "cvat"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """Which labels go into which tool's format."""

    labels: str
    """Output of jobs.label: the folder or prefix with labels/ and runs/."""
    to: Format
    """Whose format."""
    output: str
    """Folder or prefix for the export: an empty one."""
    most_uncertain: int | None = None
    """At most so many images, the most uncertain ones."""
    min_uncertainty: float | None = None
    """Only images at least so uncertain (nats)."""
    max_uncertainty: float | None = None
    """Only images at most so uncertain (nats): those to train another model on."""
    classes: tuple[str, ...] = ()
    """Only images that have one of these classes."""
    config_hash: str | None = None
    """Whose labels, where several models or options are under --labels; by default those of the newest run."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "labels", "output")
        check_least(self, most_uncertain=1, min_uncertainty=0, max_uncertainty=0)
