"""The settings of jobs.compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ddpm_seg.checks import check_least
from ddpm_seg.option_order import own_options_first
from ddpm_seg.studies.split_options import SplitOptions

Method = Literal["diffusion", "rgb", "untrained", "supervised"]


@own_options_first
@dataclass(frozen=True, kw_only=True, slots=True)
class CompareConfig(SplitOptions):
    """Settings of `jobs.compare`. Steps and blocks are the bundle's; each split gets a new ensemble."""

    plenty: str | None = None
    """Many annotated images to train the supervised U-Net on once more, as an upper bound."""
    methods: tuple[Method, ...] = get_args(Method)
    """Methods to compare; the description above explains them."""
    mirror: bool = False
    """Train the ensembles also on every image's mirror image. Leave this off if classes distinguish left from right."""
    recolour: int = 0
    """Train the ensembles also on this many slightly recoloured copies of every image."""

    def __post_init__(self) -> None:
        super(CompareConfig, self).__post_init__()  # a class with slots is made anew, which breaks super()
        check_least(self, recolour=0)
