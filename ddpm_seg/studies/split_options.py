"""Flags of the studies that train on several sets of annotated images."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.data.annotations.options import AnnotationOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitOptions(AnnotationOptions):
    """A network, a task, and annotated images to train and to score on; see `find_splits`."""

    model: str
    """Model bundle (packaged name, folder or URI prefix) whose network to use."""
    task: str
    """The classes that the ids in the masks stand for: the name of a built-in task, or a .yaml or .json file with
    class_names."""
    train: tuple[str, ...]
    """Annotated images to train on, in any form that ddpm-seg train --images takes: one folder, table or file per
    split; or a single one, from which --splits and --shots draw random splits."""
    output: str
    """Folder or URI prefix for the results. Results that are already there with the same settings are reused."""
    test: str | None = None
    """Annotated images to score on. Required without --splits; with it, the default is the images of --train that the
    split does not train on."""
    splits: int | None = None
    """Number of random splits to draw from the single --train. Needs --shots."""
    shots: int | None = None
    """Number of training images in each random split. Needs --splits."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")
        check_least(self, splits=1, shots=1)
