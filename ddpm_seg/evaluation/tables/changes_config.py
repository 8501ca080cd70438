"""Which masks are compared."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangesConfig:
    """Whose masks are compared with whose."""

    labels: str
    """Output of jobs.label where both have labelled: a folder or prefix with labels/ and runs/."""
    before: str | None = None
    """Configuration (config=… under labels/) with the masks to compare with; by default that of the newest run before
    --after."""
    after: str | None = None
    """Configuration with the new masks; by default that of the newest run."""
    output: str | None = None
    """The page to write; by default changes-BEFORE-AFTER.html under --labels."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "labels", "output")
        if self.before is not None and self.before == self.after:
            raise ValueError(f"--before and --after are both {self.before}; expected two configurations")
