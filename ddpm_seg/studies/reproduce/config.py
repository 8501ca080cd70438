"""The settings of jobs.reproduce."""

from __future__ import annotations

from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.model.published.names import LSUN_FFHQ_256
from ddpm_seg.studies.reproduce.published_scores import BENCHMARKS, NetworkName


@dataclass(frozen=True, kw_only=True, slots=True)
class ReproduceConfig:
    """Settings of `jobs.reproduce`."""

    datasets: str
    """Folder or URI prefix of DDPM-Seg's published datasets: contains TASK/real/train and TASK/real/test."""
    checkpoints: str
    """Folder or URI prefix of the checkpoints: ddpm/ffhq.pt, mae/ffhq.pth, swav/ffhq.pth, swav_w2/ffhq.pth,
    vdvae/ffhq.th, alae/ffhq.pth, and e4e/ffhq.pt for gan-inversion and gan-encoder; likewise lsun_bedroom, lsun_cat and
    lsun_horse. For a single network the files may also be in the folder itself."""
    output: str
    """Folder or URI prefix for models, labels and scores."""
    task: tuple[str, ...] = ()
    """Benchmarks to run: bedroom_28, ffhq_34, cat_15, horse_21, celeba_19 or ade_bedroom_30."""
    all: bool = False
    """Run all six benchmarks, instead of giving --task."""
    network: tuple[NetworkName, ...] = ()
    """Rows of the paper's table to run. Those whose files are missing are reported as not run. Default: ddpm, all of
    whose files must exist."""
    splits: int = 1
    """How many times to train and score each. The first time uses the first images by name, as the published scripts
    do; the others draw training images at random from the same images, and score on the rest. For dataset-ddpm and
    dataset-gan only the seed of the training differs. The paper reports five."""
    synthetic: str | None = None
    """Folder or URI prefix of the published synthetic datasets, for dataset-ddpm and dataset-gan: contains
    ddpm/TASK/*.npz and gan/TASK/*.npz."""
    members: int = 10
    """Classifiers in each ensemble."""
    iterations: int | None = None
    """Train each classifier on at most this many batches. It always stops earlier once its loss stops falling, as
    published. Default: at most 100 epochs."""
    epochs: int = 20
    """Epochs to train the students of dataset-ddpm and dataset-gan for."""
    backbone_weights: str | None = None
    """.pth file with torchvision's ImageNet weights of ResNet-101, which the published students start from. Default:
    random weights."""
    model_flags: str = LSUN_FFHQ_256
    """MODEL_FLAGS that the DDPMs were trained with, as one quoted string. The published ones need no change."""

    def __post_init__(self) -> None:
        storage.normalize_places(self, "output")
        check_least(self, members=1, iterations=1, splits=1, epochs=1)

    def names(self) -> tuple[str, ...]:
        """Names of the benchmarks to run. Raises ValueError for none or an unknown one."""
        known = ", ".join(BENCHMARKS)
        if self.all == bool(self.task):
            raise ValueError(f"give either --task with some of {known}, or --all for all six")
        if unknown := [name for name in self.task if name not in BENCHMARKS]:
            raise ValueError(f"--task {unknown[0]!r} is not a published benchmark; expected some of {known}")
        return tuple(BENCHMARKS) if self.all else self.task

    def networks(self) -> tuple[NetworkName, ...]:
        """Rows of the paper's table to run, each once."""
        return tuple(dict.fromkeys(self.network)) or ("ddpm",)
