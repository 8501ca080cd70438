"""The settings of jobs.annotate."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least


@dataclass(frozen=True, kw_only=True, slots=True)
class AnnotateConfig:
    """Settings of `jobs.annotate`."""

    samples: str
    """Generated images to annotate: a folder or URI prefix that ddpm-seg generate wrote (its --output). They need no
    masks."""
    plenty: str
    """Many annotated real images to train the annotating network on, in any form that ddpm-seg train --images takes."""
    task: str
    """The classes that the ids in --plenty stand for: the name of a built-in task, or a .yaml or .json file with
    class_names."""
    output: str
    """Parquet file to write: the samples and their masks. ddpm-seg train takes it as --images."""
    config_hash: str | None = None
    """Annotate the samples of this configuration (HASH of a folder config=HASH under samples/), if --samples holds
    several. Default: the configuration of the newest run."""
    limit: int | None = None
    """Annotate only the first LIMIT samples. Default: all."""
    seed: int = 0
    """Random seed for training the annotating network."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "samples", "output")
        if not self.output.endswith(".parquet"):
            raise ValueError(f"--output must end with .parquet, got {self.output!r}")
        check_least(self, limit=1)
