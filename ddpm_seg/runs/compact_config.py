"""Which tables are compacted, and where to."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least


@dataclass(frozen=True, kw_only=True, slots=True)
class CompactConfig:
    """Which tables, where to write them anew, and how large the files are to be."""

    labels: str
    """Output of jobs.label: the folder or prefix with labels/ and runs/."""
    output: str
    """Folder or prefix for the compacted tables: an empty one."""
    config_hash: str | None = None
    """Only these rows, where several models or options are under --labels (config=… under labels/); by default all,
    each configuration in files of its own."""
    shard_size: int = 20_000
    """Rows in each new file; fewer where they would be more than 256 MB."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "labels", "output")
        check_least(self, shard_size=1)
        source, target = (uri.rstrip("/") + "/" for uri in (self.labels, self.output))
        if target.startswith(source) or source.startswith(target):
            raise ValueError(
                f"--output {self.output} and --labels {self.labels} must not be one "
                "inside the other; take a prefix beside it"
            )
