"""The settings of jobs.distill."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.data.annotations.options import AnnotationOptions
from ddpm_seg.model.networks.backbones import Backbone
from ddpm_seg.training.optimization import StudentOptimization


@dataclass(frozen=True, kw_only=True)
class SamplesAndStudent:
    """A separate base class so that --help lists these flags first: the fields of the last base come first."""

    samples: str | None = None
    """Generated samples with masks: a folder or URI prefix that ddpm-seg generate wrote (its --output). Samples that
    ddpm-seg curate dropped are not used."""
    num_samples: tuple[int, ...] | None = None
    """Train on this many of the --samples, chosen at random, the same ones every time. Several numbers give a curve:
    one student each, in folders samples-N of --output, with as many batches for each, scored on --validation.
    Default: all."""
    labels: str | None = None
    """Instead of --samples, real images with the masks that a model gave them: a folder or URI prefix that ddpm-seg
    label wrote (its --output). The images are read again."""
    ignore_below: float = 0.5
    """With --labels, do not learn pixels whose class has less than this probability. Only labels made with --maps say
    so."""
    image_size: int | None = None
    """With --labels, side in pixels of the images that the student sees. Default: that of the model that made the
    labels."""
    config_hash: str | None = None
    """Train on the samples or labels of this configuration (HASH of a folder config=HASH under samples/ or labels/), if
    there are several. Default: the configuration that ddpm-seg curate ran on, else that of the newest run."""
    output: str
    """Folder or URI prefix for the student's bundle. The state of an unfinished training is kept there too."""
    validation: str | None = None
    """Annotated images, in any form that ddpm-seg train --images takes. The student keeps the weights of the epoch that
    scores best on them. Default: it keeps those of the last epoch."""
    images: str | None = None
    """Train on these annotated images instead, as a baseline for the samples or labels. Image size and classes are
    still taken from --samples or --labels."""
    repeat: int = 1
    """How often each image of --images is used per epoch, so that a few images give as many batches as many samples."""
    architecture: Literal["deeplabv3", "unet"] = "deeplabv3"
    """deeplabv3 is the published student. unet is the small U-Net of ddpm-seg compare, whose masks are finer: it sees
    images at their own size and is trained with the Dice loss too."""
    backbone: Backbone = "resnet101"
    """Backbone of the DeepLabV3. resnet101 is the published one; the others suit smaller machines."""
    backbone_weights: str | None = None
    """.pth file with the state dict of torchvision's ImageNet classifier of the same name as --backbone, to start from.
    Default: random weights."""
    resolution: int = 256
    """Side in pixels to enlarge images to before a DeepLabV3 sees them. Its features have an eighth of that side (a
    sixteenth for mobilenet_v3_large)."""


@dataclass(frozen=True, kw_only=True)
class DistillConfig(AnnotationOptions, StudentOptimization, SamplesAndStudent):
    """Settings of `jobs.distill`."""

    num_workers: int | None = None
    """Number of Ray Train workers. Default: one per free GPU of the cluster, or of this machine if it has several; else
    0, which trains in this process."""

    def __post_init__(self) -> None:
        super().__post_init__()
        storage.normalize_places(self, "samples", "labels", "output")
        check_least(self, repeat=1, image_size=1)
        self._check_num_samples()
        if (self.samples is None) == (self.labels is None):
            raise ValueError("give either --samples, which ddpm-seg generate wrote, or --labels, of ddpm-seg label")
        if self.image_size is not None and self.labels is None:
            raise ValueError("--image-size is for --labels: samples have a size of their own")
        if not 0 <= self.ignore_below <= 1:
            raise ValueError(f"ignore_below is {self.ignore_below}, expected a probability from 0 to 1")
        if self.backbone_weights is not None and self.architecture == "unet":
            raise ValueError("--backbone-weights is for --architecture deeplabv3: a U-Net has no backbone of ImageNet")
        if self.repeat > 1 and self.images is None:
            raise ValueError("--repeat needs --images; for more passes over the samples give more --epochs")

    def _check_num_samples(self) -> None:
        numbers = self.num_samples
        if numbers is None:
            return
        if not numbers or min(numbers) < 1 or len(set(numbers)) < len(numbers):
            raise ValueError(f"--num-samples must be different numbers of at least 1, got {numbers}")
        if self.samples is None or self.images is not None:
            raise ValueError("--num-samples chooses from --samples: leave out --labels and --images, or --num-samples")
        if len(numbers) > 1 and self.validation is None:
            raise ValueError("several --num-samples give a curve, which is scored on --validation: give it too")

    def optimization(self) -> StudentOptimization:
        """The settings that the weights depend on, besides the samples and the network."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(StudentOptimization)}
        return StudentOptimization(**own)
