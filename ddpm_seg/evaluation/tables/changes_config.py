"""Settings of jobs.changes."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangesConfig:
    """Settings of `jobs.changes`."""

    labels: str
    """Output of jobs.label that holds the labels of both: a folder or prefix with labels/ and runs/."""
    before: str | None = None
    """Configuration (config=… below labels/) with the old masks. Default: that of the newest run before --after."""
    after: str | None = None
    """Configuration with the new masks. Default: that of the newest run."""
    output: str | None = None
    """The page to write. Default: changes-BEFORE-AFTER.html below --labels."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "labels", "output")
        if self.before is not None and self.before == self.after:
            raise ValueError(f"--before and --after are both {self.before}; expected two configurations")
