"""How a student is trained: settings of jobs.distill."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.data.annotations.options import AnnotationOptions
from ddpm_seg.model.networks.backbones import Backbone
from ddpm_seg.training.optimization import StudentOptimization


@dataclass(frozen=True, kw_only=True)
class SamplesAndStudent(AnnotationOptions):
    """A base class of its own so that --help begins with these: the fields of the last base come first."""

    samples: str
    """Labelled samples, an --output of jobs.generate. Those that jobs.curate drops are left out."""
    config_hash: str | None = None
    """Whose samples, where those of several models or options are there (config=… under samples/); by default those
    that jobs.curate made its rule for, and without a rule those of the newest run."""
    output: str
    """Where the student is written. The state of an unfinished training stands there too."""
    validation: str | None = None
    """Annotated images, in any form that jobs.train takes. The epoch that scores best on them is kept; without them
    the last one."""
    images: str | None = None
    """Train on these annotated images instead, at the samples' size and for their task: what the samples must beat."""
    repeat: int = 1
    """Times that each of --images comes in an epoch: as many batches from few images as from many samples."""
    backbone: Backbone = "resnet101"
    """Of the DeepLabV3: resnet101 as published; the others for small machines."""
    backbone_weights: str | None = None
    """State dict of torchvision's ImageNet classifier of that name (.pth), to begin with. Default: random weights."""
    resolution: int = 256
    """Side that images are enlarged to for the network, which looks at an eighth of it (mobilenet_v3_large: a
    sixteenth)."""


@dataclass(frozen=True, kw_only=True)
class DistillConfig(StudentOptimization, SamplesAndStudent):
    """Settings of `jobs.distill`."""

    num_workers: int | None = None
    """Ray Train workers. Default: one for each GPU of the cluster; without GPUs, this process alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        storage.normalize_places(self, "samples", "output")
        check_least(self, repeat=1)
        if self.repeat > 1 and self.images is None:
            raise ValueError("--repeat is for --images; for more passes over the samples give more --epochs")

    def optimization(self) -> StudentOptimization:
        """What the weights depend on, beside the samples and the network."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(StudentOptimization)}
        return StudentOptimization(**own)
