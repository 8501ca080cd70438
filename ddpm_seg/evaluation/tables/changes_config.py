"""The settings of jobs.changes."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangesConfig:
    """Settings of `jobs.changes`."""

    labels: str
    """Folder or URI prefix that ddpm-seg label wrote both sets of masks to (its --output): the one with labels/ and
    runs/."""
    before: str | None = None
    """Configuration of the old masks: HASH of a folder config=HASH under labels/. Default: the configuration that ran
    most recently before --after."""
    after: str | None = None
    """Configuration of the new masks. Default: the configuration of the newest run."""
    output: str | None = None
    """HTML file to write. Default: changes-BEFORE-AFTER.html under --labels."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "labels", "output")
        if self.before is not None and self.before == self.after:
            raise ValueError(f"--before and --after are both {self.before}; expected two configurations")
