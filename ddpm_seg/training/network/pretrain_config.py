"""How a network is pretrained: settings of jobs.pretrain and jobs.pretrain_mae."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from ddpm_seg import storage
from ddpm_seg.training.optimization import Optimization


@dataclass(frozen=True, kw_only=True)
class ImagesAndOutput:
    """A base class of its own so that --help begins with these: the fields of the last base come first."""

    images: str
    """Folder, URI prefix or list of unlabelled images; labels beside them are not read."""
    output: str
    """Where the bundle is written. The state of an unfinished training stands there too."""
    image_size: int = 64
    """Side of the network's square input."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(Optimization, ImagesAndOutput):
    """What every pretraining is told; the network's own settings are below."""

    compile: bool = False
    """Run the network through torch.compile: training begins minutes later, and is then faster, for long ones. Where
    that fails it trains as it is, and the log says so."""
    num_workers: int | None = None
    """Ray Train workers. Default: one for each GPU of the cluster; without GPUs, this process alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        storage.normalize_places(self, "output")

    def optimization(self) -> Optimization:
        """What the weights depend on, beside the images and the network."""
        return Optimization(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Optimization)})


@dataclass(frozen=True, kw_only=True)
class PretrainDDPMConfig(PretrainConfig):
    """Settings of `jobs.pretrain`. The network's are named as guided-diffusion's flags."""

    num_channels: int = 32
    """Channels of the first level."""
    num_res_blocks: int = 1
    """Residual blocks a level."""
    channel_mult: tuple[int, ...] = (1, 1, 2, 4)
    """Channels of each level, as multiples of --num-channels."""
    attention_resolutions: tuple[int, ...] = (8,)
    """Sides of the feature maps that get self-attention."""
    noise_schedule: Literal["linear", "cosine"] = "linear"
    """How noise grows over 1000 diffusion steps."""


@dataclass(frozen=True, kw_only=True)
class PretrainMAEConfig(PretrainConfig):
    """Settings of `jobs.pretrain_mae`."""

    patch_size: int = 8
    """Side of a patch; --image-size must be a multiple of it."""
    width: int = 192
    """Of a token."""
    depth: int = 12
    """Blocks of the encoder; its decoder has a third as many, half as wide."""
    num_heads: int = 3
    """Of the attention."""
