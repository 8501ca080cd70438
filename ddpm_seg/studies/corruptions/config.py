"""The settings of jobs.corruptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.option_order import own_options_first
from ddpm_seg.studies.split_options import SplitOptions

Kind = Literal[
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
]
SEVERITIES = (1, 2, 3, 4, 5)
SUPERVISED, CLEAN = "supervised", "clean"


@own_options_first
@dataclass(frozen=True, kw_only=True, slots=True)
class CorruptionsConfig(SplitOptions):
    """Settings of `jobs.corruptions`. Steps and blocks are each bundle's; each split gets a new ensemble."""

    model: tuple[str, ...]  # type: ignore[assignment]  # several, where other studies take one
    """Model bundles (packaged names, folders or URI prefixes) whose networks to compare."""
    supervised: bool = False
    """Also train and score a small U-Net from scratch, as ddpm-seg compare does."""
    kinds: tuple[Kind, ...] | None = None
    """Kinds of corruption. Default: all of ImageNet-C; with --others, none."""
    severities: tuple[int, ...] = SEVERITIES
    """Severities, from 1 to 5."""
    others: tuple[str, ...] = ()
    """More sets of annotated images to score the same models on, uncorrupted: each becomes a row named by its last
    part."""
    limit: int | None = None
    """Score only the first LIMIT images of --test and of each of --others, sorted by name. Default: all."""
    mirror: bool = False
    """Train the ensembles also on every image's mirror image. Leave this off if classes distinguish left from right."""
    recolour: int = 0
    """Train the ensembles also on this many slightly recoloured copies of every image."""
    members: int = 10
    """Classifiers in each ensemble."""
    iterations: int = 1500
    """Batches that each ensemble, and the U-Net, is trained on."""
    seed: int = 0
    """Random seed for the training. The corruptions depend on an image's name, the kind and the severity only."""
    num_actors: int | None = None
    """Number of Ray actors that label corrupted images. Default: one per free GPU of the cluster; else 0, which labels
    them in this process."""

    def __post_init__(self) -> None:
        super(CorruptionsConfig, self).__post_init__()  # a class with slots is made anew, which breaks super()
        check_least(self, limit=1, recolour=0, members=1, iterations=1, num_actors=0)
        if wrong := set(self.severities) - set(SEVERITIES):
            raise ValueError(f"--severities must lie in 1..5, got {min(wrong)}")
        for flag, uris, taken in (("--model", self.model, SUPERVISED), ("--others", self.others, CLEAN)):
            names = [name_of(uri) for uri in uris]
            twice = {name for name in names if names.count(name) > 1} | ({taken, *get_args(Kind)} & {*names})
            if twice:
                raise ValueError(f"{flag}: {min(twice)!r} names another row already; rename that folder")

    @property
    def chosen_kinds(self) -> tuple[Kind, ...]:
        """`kinds`, or what is the default."""
        return (() if self.others else get_args(Kind)) if self.kinds is None else self.kinds


def name_of(uri: str) -> str:
    """What results of this model or set are called: the last part of its URI."""
    return storage.normalize(uri).rpartition("/")[2]
