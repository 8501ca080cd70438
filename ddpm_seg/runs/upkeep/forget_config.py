"""The settings of jobs.forget."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage


@dataclass(frozen=True, kw_only=True, slots=True)
class ForgetConfig:
    """Settings of `jobs.forget`."""

    labels: str
    """Folder or URI prefix that ddpm-seg label wrote (its --output): the one with labels/ and runs/."""
    uris: str
    """The images to forget: a list (.txt, .csv, .tsv or .parquet) of their URIs as in the tables' column uri. A tar or
    table of images in it stands for all its images."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "labels", "uris")
