"""Which samples the stand-in annotates: settings of jobs.annotate."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotateConfig:
    """Settings of `jobs.annotate`."""

    samples: str
    """Generated images, an --output of jobs.generate; a model without an ensemble will do."""
    plenty: str
    """Many annotated real images, in any form that jobs.train takes: what the stand-in learns from."""
    task: str
    """What the class ids of --plenty mean: the name of a task, or a .yaml or .json file with class_names."""
    output: str
    """Parquet file to write: samples and their masks, which jobs.train takes as --images."""
    config_hash: str | None = None
    """Whose samples, where those of several models or options are there; by default those of the newest run."""
    limit: int | None = None
    """Annotate the first so many samples only."""
    seed: int = 0
    """Of the stand-in's training."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "samples", "output")
        if not self.output.endswith(".parquet"):
            raise ValueError(f"--output must end with .parquet, got {self.output!r}")
        check_least(self, limit=1)
