"""Settings of jobs.train."""

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
    table with masks, such as jobs.label writes; a .json of COCO or Label Studio; or a .xml of CVAT."""
    task: str
    """What the class ids mean: the name of a task, or a .yaml or .json file with class_names."""
    output: str
    """Where the new bundle is written."""
    members: int = 10
    """Number of classifiers in the ensemble."""
    tune: bool = False
    """First try steps and blocks by cross-validation on these images, log the quality and cost of each choice, then
    train with the best."""
    steps: tuple[int, ...] | None = None
    """Diffusion timesteps to read features at. Default: the bundle's own, else 50 150 250 (of 1000). Not for a MAE or
    SwAV, which see the image without noise."""
    blocks: tuple[int, ...] | None = None
    """Blocks of the network to read. Default: the bundle's own, else the published ones. A DDPM's decoder blocks count
    from 0 at the lowest resolution; the blocks of a MAE or SwAV count from 0 at the input."""
    upsample_mode: Literal["bilinear", "nearest"] | None = None
    """How features are upsampled to pixels. Default: the bundle's own, else bilinear."""
    mirror: bool = False
    """Also train on every image's mirror image: better masks. Leave it off if classes tell left from right."""
    recolour: int = 0
    """Number of slightly recoloured copies of every image to train on as well: better masks from few images, for
    proportionally more time and memory."""
    recipe: Literal["cosine", "published"] = "cosine"
    """cosine: batches of 256 standardised pixels and a learning rate that falls to zero. published: batches of 64
    pixels at a constant rate, and each member stops when its loss stops falling."""
    iterations: int | None = None
    """Batches per member. Default: 1500; with --recipe published, as many as 100 epochs have."""
    seed: int = 0
    """Seed for the members' initial weights and pixel orders; the same seed gives the same bundle."""
    limit: int | None = None
    """Train on only the first N images, by name."""
    validation: str | None = None
    """Folder or URI prefix of annotated images to score the finished bundle on (published mean IoU)."""
    num_actors: int | None = None
    """Number of Ray actors that run the images through the network; they pay off from hundreds of images on. Default:
    one per free GPU of the cluster; without GPUs, this process alone."""
    device: str | None = None
    """Device for torch, such as cpu or cuda. Default: a GPU if there is one, else the CPU."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")
        check_least(self, members=1, recolour=0, iterations=1, seed=0, limit=1, num_actors=0)
        for name in ("steps", "blocks"):
            if getattr(self, name) == ():
                raise ValueError(f"--{name} has no values; give some, or leave it out")
