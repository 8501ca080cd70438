"""The settings of jobs.export."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from ddpm_seg import storage
from ddpm_seg.checks import check_least, check_target
from ddpm_seg.data.domain import OUTSIDE

Format = Literal["coco", "png", "huggingface", "fiftyone", "label-studio", "cvat", "webdataset", "lance"]

OWN_NAMES = frozenset(("image", "mask", "uri", "uncertainty", "mean_confidence", "model_id", "classes"))
"""Columns and fields of the exports that can carry others."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """Settings of `jobs.export`."""

    labels: str | None = None
    """Folder or URI prefix that ddpm-seg label wrote (its --output): the one with labels/ and runs/."""
    samples: str | None = None
    """Folder or URI prefix that ddpm-seg generate wrote, instead of --labels: generated images. Those of a model
    without an ensemble have no masks yet: --to png writes the images to annotate."""
    to: Format
    """Format to write."""
    output: str
    """Folder or URI prefix for the export. It must be empty."""
    only: str | None = None
    """Export only the images in this list (.txt, .csv, .tsv or .parquet). Of verdicts.csv, which a report saves, only
    the accepted ones."""
    most_uncertain: int | None = None
    """Export only this many images, the most uncertain ones. Useful for review."""
    min_uncertainty: float | None = None
    """Export only images with at least this uncertainty, in nats."""
    max_uncertainty: float | None = None
    """Export only images with at most this uncertainty, in nats. Useful to train another model on the surest masks."""
    max_domain_distance: float | None = None
    """Export only images whose domain_distance (how unlike the training images they are) is at most this. Default: 1.4
    with --max-uncertainty, because models can be sure of what they have never seen; otherwise no limit."""
    classes: tuple[str, ...] = ()
    """Export only images that contain at least one of these classes. Default: all images."""
    merge_into: str | None = None
    """With --to lance: the Lance table that was labelled. Its rows get the masks as new columns, ddpm_seg_mask,
    ddpm_seg_uncertainty, ddpm_seg_mean_confidence and ddpm_seg_model_id, in a new version of the table; the columns of
    an earlier export are replaced. --output then has only the list of what was merged."""
    keep: tuple[str, ...] = ()
    """Names of what to carry over from the tars and tables that the images lie in: columns of a table; members KEY.NAME
    of a tar, or fields of its KEY.json (caption url). Only for huggingface, webdataset and lance."""
    target_error: str | None = None
    """Leave out pixels (255, no class) that are not confident enough, so that on average at most this share of an
    image's pixels (1%) has a wrong class. Needs --calibration, and labels that were made with --maps."""
    calibration: str | None = None
    """Annotated images, in any form that ddpm-seg train takes, that are among the labelled ones and that the model was
    not trained on: --target-error rests on them. 1% takes at least 99 of them, 5% 19."""
    config_hash: str | None = None
    """Export the labels of this configuration (HASH of a folder config=HASH under labels/), if --labels holds several.
    Default: the configuration of the newest run."""

    def __post_init__(self) -> None:
        if (self.labels is None) == (self.samples is None):
            raise ValueError("give either --labels (from ddpm-seg label) or --samples (from ddpm-seg generate)")
        if self.samples is not None and self.to == "label-studio":
            raise ValueError("--to label-studio refers to image files, but samples are in a table: use --to coco")
        if self.samples is not None and self.to == "webdataset":
            raise ValueError(
                "--to webdataset writes masks beside tars of images, but samples are in a table: use --to png"
            )
        if self.keep and self.to not in ("huggingface", "webdataset", "lance"):
            raise ValueError(f"--keep is for huggingface, webdataset and lance; --to {self.to} has no place for it")
        if self.to == "lance" and find_spec("lance") is None:
            raise ValueError("--to lance needs pip install 'ddpm_seg[lance]'")
        if self.merge_into is not None:
            self._check_merge()
        if self.keep and self.samples is not None:
            raise ValueError("--keep is for labelled images in tars and tables; samples have no other columns")
        if own := sorted(OWN_NAMES.intersection(self.keep)):
            raise ValueError(f"--keep {own[0]}: the export has a {own[0]} of its own")
        check_target(self.target_error, self.calibration)
        if self.samples is not None and self.target_error is not None:
            raise ValueError("--target-error needs annotated images among the labelled ones; samples have none")
        storage.normalize_places(self, "labels", "samples", "output", "only", "merge_into")
        check_least(self, most_uncertain=1, min_uncertainty=0, max_uncertainty=0, max_domain_distance=0)

    def _check_merge(self) -> None:
        if self.to != "lance":
            raise ValueError(f"--merge-into adds columns to a Lance table, so it goes with --to lance, not {self.to}")
        if self.samples is not None:
            raise ValueError("--merge-into is for a table that was labelled; samples are in a table of their own")
        if self.keep:
            raise ValueError("--merge-into keeps the table's own columns anyway: leave out --keep")

    @property
    def farthest(self) -> float | None:
        """The largest domain distance to export; None means no limit."""
        if self.max_domain_distance is None and self.max_uncertainty is not None:
            return OUTSIDE
        return self.max_domain_distance
