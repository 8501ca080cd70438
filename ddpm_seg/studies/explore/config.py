"""The settings of jobs.explore, and the names of its files."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.fits import FitMode
from ddpm_seg.tasks import UNLABELLED

PAGE, TABLE = "explore.html", "clusters.csv"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExploreConfig:
    """Settings of `jobs.explore`."""

    images: str
    """Images without annotations, in any form that ddpm-seg label --input takes: a folder, a bucket, a list, …"""
    output: str
    """Folder or URI prefix to write to. Masks that are already there are not replaced."""
    model: str = "avatars-10"
    """Model bundle (packaged name, folder or URI prefix) whose network to use. An ensemble that it has is not used."""
    clusters: int = 24
    """Number of clusters. Better too many than too few: clusters are easily merged into one class."""
    num_images: int = 100
    """Look at this many images: a random choice, if there are more."""
    steps: tuple[int, ...] | None = None
    """Diffusion timesteps to read, for a DDPM. Default: the bundle's own, else the published ones."""
    blocks: tuple[int, ...] | None = None
    """Blocks of the network to read. Default: the bundle's own, else the published ones."""
    fit: FitMode | None = None
    """How to fit an image that is not square into the network's square input; see ddpm-seg label --fit. Default: as the
    network's own images were fitted."""
    seed: int = 0
    """Random seed for the choice of images and for k-means. The same seed gives the same clusters."""
    num_actors: int | None = None
    """Number of Ray actors that compute activations. Default: one per free GPU of the cluster; else 0, which computes
    them in this process."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")
        check_least(self, clusters=2, num_images=1, seed=0, num_actors=0)
        if self.clusters > UNLABELLED:
            raise ValueError(f"--clusters must be at most {UNLABELLED}, got {self.clusters}")
