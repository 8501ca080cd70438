"""The settings of jobs.compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.data.annotations.options import AnnotationOptions
from ddpm_seg.option_order import own_options_first

Method = Literal["diffusion", "rgb", "untrained", "supervised"]


@own_options_first
@dataclass(frozen=True, kw_only=True, slots=True)
class CompareConfig(AnnotationOptions):
    """Settings of `jobs.compare`."""

    model: str
    """Model bundle (packaged name, folder or URI prefix) whose network, diffusion steps and blocks to use. A new
    ensemble is trained on every split."""
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
    plenty: str | None = None
    """Many annotated images to train the supervised U-Net on once more, as an upper bound."""
    methods: tuple[Method, ...] = get_args(Method)
    """Methods to compare; the description above explains them."""
    mirror: bool = False
    """Train the ensembles also on every image's mirror image. Leave this off if classes distinguish left from right."""
    recolour: int = 0
    """Train the ensembles also on this many slightly recoloured copies of every image."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")
        check_least(self, splits=1, shots=1, recolour=0)
