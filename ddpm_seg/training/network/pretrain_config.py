"""Settings of jobs.pretrain and jobs.pretrain_mae."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from ddpm_seg import storage
from ddpm_seg.training.optimization import Optimization


@dataclass(frozen=True, kw_only=True)
class ImagesAndOutput:
    """A separate base class, so that --help lists these options first: the fields of the last base come first."""

    images: str
    """Folder, URI prefix or list of unlabelled images. Labels beside them are ignored."""
    output: str
    """Where the bundle is written. The state of an unfinished training is kept there too."""
    image_size: int = 64
    """Side of the network's square input, in pixels."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(Optimization, ImagesAndOutput):
    """Options of every pretraining; subclasses add those of their network."""

    compile: bool = False
    """Run the network through torch.compile. Training starts minutes later and then runs faster, which pays off if it
    is long. If compiling fails, training runs without it and the log says so."""
    num_workers: int | None = None
    """Number of Ray Train workers. Default: one per free GPU of the cluster; without GPUs, this process alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        storage.normalize_places(self, "output")

    def optimization(self) -> Optimization:
        """The options that the weights depend on, besides the images and the network."""
        return Optimization(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Optimization)})


@dataclass(frozen=True, kw_only=True)
class PretrainDDPMConfig(PretrainConfig):
    """Settings of `jobs.pretrain`. The network's options have the names of guided-diffusion's flags."""

    num_channels: int = 32
    """Channels of the first level."""
    num_res_blocks: int = 1
    """Residual blocks per level."""
    channel_mult: tuple[int, ...] = (1, 1, 2, 4)
    """Channels of each level, as multiples of --num-channels."""
    attention_resolutions: tuple[int, ...] = (8,)
    """Sides of the feature maps that get self-attention."""
    noise_schedule: Literal["linear", "cosine"] = "linear"
    """How the noise grows over the 1000 diffusion steps."""


@dataclass(frozen=True, kw_only=True)
class PretrainMAEConfig(PretrainConfig):
    """Settings of `jobs.pretrain_mae`."""

    patch_size: int = 8
    """Side of a patch; --image-size must be a multiple of it."""
    width: int = 192
    """Channels per token."""
    depth: int = 12
    """Number of encoder blocks; the decoder has a third as many, half as wide."""
    num_heads: int = 3
    """Number of attention heads."""
