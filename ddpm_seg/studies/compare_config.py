"""What is compared: settings of jobs.compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.data.annotations.options import AnnotationOptions

Method = Literal["diffusion", "rgb", "untrained", "supervised"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CompareConfig(AnnotationOptions):
    """Settings of `jobs.compare`."""

    model: str
    """Name or URI of a bundle: its network, its steps and its blocks. The ensemble is trained anew on every split."""
    task: str
    """What the class ids mean: the name of a task, or a .yaml or .json file with class_names."""
    train: tuple[str, ...]
    """Annotated images to train on, in any form that jobs.train takes: one folder, table or file a split; or a single
    one with --splits and --shots."""
    output: str
    """Folder or URI prefix for the results. Those that stand there already are not made again."""
    test: str | None = None
    """Annotated images to score on. Default, with --splits: what a split does not train on."""
    splits: int | None = None
    """Draw so many random splits from the one --train."""
    shots: int | None = None
    """Images of each such split to train on."""
    plenty: str | None = None
    """Many annotated images, for the supervised U-Net alone: the ceiling."""
    methods: tuple[Method, ...] = get_args(Method)
    """What to compare."""
    mirror: bool = False
    """Train the ensembles on every image's mirror image too; not where classes tell left from right."""
    recolour: int = 0
    """Train the ensembles on so many slightly recoloured copies of every image too."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")
        check_least(self, splits=1, shots=1, recolour=0)
