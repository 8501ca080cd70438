"""Settings of jobs.distill."""

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
    """A separate base class, so that --help lists these options first: the fields of the last base come first."""

    samples: str
    """Labelled samples: an --output of jobs.generate. Samples that jobs.curate dropped are left out."""
    config_hash: str | None = None
    """Which samples to use if --samples holds those of several models or options (config=… below samples/). Default:
    those that the rule of jobs.curate was made for, or without a rule those of the newest run."""
    output: str
    """Where the student is written. The state of an unfinished training is kept there too."""
    validation: str | None = None
    """Annotated images, in any form that jobs.train takes. The epoch that scores best on them is kept; without them,
    the last epoch."""
    images: str | None = None
    """Train on these annotated images instead of the samples, at the samples' size and for their task: a baseline for
    the samples to beat."""
    repeat: int = 1
    """Passes over --images per epoch, so that few images give as many batches as many samples do."""
    backbone: Backbone = "resnet101"
    """Backbone of the DeepLabV3: resnet101 as published; the others suit small machines."""
    backbone_weights: str | None = None
    """State dict (.pth) of torchvision's ImageNet classifier with the same name as --backbone, to start from. Default:
    random weights."""
    resolution: int = 256
    """Side to which images are enlarged for the network. Its feature maps have an eighth of that side
    (mobilenet_v3_large: a sixteenth)."""


@dataclass(frozen=True, kw_only=True)
class DistillConfig(StudentOptimization, SamplesAndStudent):
    """Settings of `jobs.distill`."""

    num_workers: int | None = None
    """Number of Ray Train workers. Default: one per free GPU of the cluster; without GPUs, this process alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        storage.normalize_places(self, "samples", "output")
        check_least(self, repeat=1)
        if self.repeat > 1 and self.images is None:
            raise ValueError("--repeat is for --images; for more passes over the samples give more --epochs")

    def optimization(self) -> StudentOptimization:
        """The options that the weights depend on, besides the samples and the network."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(StudentOptimization)}
        return StudentOptimization(**own)
