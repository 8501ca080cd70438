"""The settings of jobs.compact."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least


@dataclass(frozen=True, kw_only=True, slots=True)
class CompactConfig:
    """Settings of `jobs.compact`."""

    labels: str
    """Folder or URI prefix that ddpm-seg label wrote (its --output): the one with labels/ and runs/."""
    output: str | None = None
    """Folder or URI prefix for the compacted tables. It must be empty. Needed unless --prune is given."""
    config_hash: str | None = None
    """Compact only this configuration: HASH of a folder config=HASH under labels/. Default: all configurations, each
    into its own files. With --prune: the one to keep; by default that of the newest run."""
    shard_size: int = 20_000
    """Rows per new file. A file that reaches 256 MB gets fewer."""

    prune: bool = False
    """Instead of compacting: list what --labels no longer needs, which is all but one configuration and what finished
    runs left. Nothing is deleted without --delete."""
    delete: bool = False
    """Delete what --prune lists. It cannot be brought back."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "labels", "output")
        check_least(self, shard_size=1)
        if self.prune:
            if self.output is not None:
                raise ValueError("--prune changes --labels itself; leave out --output")
            return
        if self.delete:
            raise ValueError("--delete goes with --prune; compacting leaves --labels unchanged")
        if self.output is None:
            raise ValueError("give --output for the compacted tables, or --prune")
        source, target = (uri.rstrip("/") + "/" for uri in (self.labels, self.output))
        if target.startswith(source) or source.startswith(target):
            raise ValueError(
                f"--output {self.output} and --labels {self.labels}: neither may be inside the other; choose an "
                "--output outside --labels"
            )
