"""The settings of jobs.probe."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.data.annotations.options import AnnotationOptions
from ddpm_seg.option_order import own_options_first


@own_options_first
@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeConfig(AnnotationOptions):
    """Settings of `jobs.probe`."""

    model: str
    """Model bundle (packaged name, folder or URI prefix) whose network to look into."""
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
    steps: tuple[int, ...] | None = None
    """Diffusion timesteps to look at, for a DDPM. Default: 5, 20, 50, 100, 150, 250 and 400 of 1000, scaled to the
    network's schedule."""
    blocks: tuple[int, ...] | None = None
    """Blocks to look at. Default: all, or the published ones of a network with more than 32."""
    members: int = 2
    """Classifiers for each step and block."""
    iterations: int = 300
    """Batches of 256 pixels that each classifier is trained on."""
    seed: int = 0
    """Random seed for the classifiers."""
    num_actors: int | None = None
    """Number of Ray actors that compute activations. Default: one per free GPU of the cluster; else 0, which computes
    them in this process."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")
        check_least(self, splits=1, shots=1, members=1, iterations=1, num_actors=0)
