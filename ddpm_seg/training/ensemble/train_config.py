"""How an ensemble is trained: settings of jobs.train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.data.annotations.options import AnnotationOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig(AnnotationOptions):
    """Settings of `jobs.train`."""

    model: str
    """Name or URI of a bundle: a DDPM, a MAE or a SwAV, or a trained bundle whose ensemble is replaced."""
    images: str
    """Annotated images: a folder or prefix with X.png beside X.npy, or with images/X.jpg and masks/X.png; a .parquet
    table with masks, such as our labels; COCO's or Label Studio's .json; or CVAT's .xml."""
    task: str
    """What the class ids mean: the name of a task, or a .yaml or .json file with class_names."""
    output: str
    """Where the new bundle is written."""
    members: int = 10
    """Classifiers in the ensemble."""
    tune: bool = False
    """First try steps and blocks by cross-validation on these images, show quality and cost, train with the best."""
    steps: tuple[int, ...] | None = None
    """Diffusion timesteps to read features at. Default: the bundle's own, else 50 150 250 (of 1000). Not of a MAE or
    SwAV, which see the image as it is."""
    blocks: tuple[int, ...] | None = None
    """Blocks to read. Default: the bundle's own, else the published ones. A DDPM's decoder blocks are counted from 0 at
    the lowest resolution, a MAE's and a SwAV's blocks from 0 at the image."""
    upsample_mode: Literal["bilinear", "nearest"] | None = None
    """How features are brought to pixels. Default: the bundle's own, else bilinear."""
    mirror: bool = False
    """Train on every image's mirror image too: better masks, but not where classes tell left from right."""
    recolour: int = 0
    """Train on so many slightly recoloured copies of every image too: better masks from few images, for as much more
    time and memory."""
    recipe: Literal["cosine", "published"] = "cosine"
    """Batches of 256 standardised pixels, and a learning rate that falls to zero; or the published training: batches of
    64, a constant rate, and each member stops when its loss does."""
    iterations: int | None = None
    """Batches a member is trained on. Default: 1500; with --recipe published no limit but 100 epochs."""
    seed: int = 0
    """Of the members' first weights and their orders of pixels; the same seed gives the same bundle."""
    limit: int | None = None
    """Train on the first so many images only, by name."""
    validation: str | None = None
    """Folder or URI prefix of annotated images to score the finished bundle on (published mean IoU)."""
    num_actors: int | None = None
    """Ray actors that bring the images through the network, which pays from hundreds of images on. Default: one for
    each free GPU of the cluster; without, this process alone."""
    device: str | None = None
    """Where torch computes. Default: a GPU if there is one, else the CPU."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")
        check_least(self, members=1, recolour=0, iterations=1, seed=0, limit=1, num_actors=0)
        for name in ("steps", "blocks"):
            if getattr(self, name) == ():
                raise ValueError(f"--{name} names none; give some, or leave it out")
