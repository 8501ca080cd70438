"""The settings of jobs.pretrain and jobs.pretrain_mae."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from ddpm_seg import storage
from ddpm_seg.checks import check_least
from ddpm_seg.fits import FitMode
from ddpm_seg.training.optimization import Optimization

DEFAULT_SIDE = 64


@dataclass(frozen=True, kw_only=True)
class ImagesAndOutput:
    """A separate base class so that --help lists these flags first: the fields of the last base come first."""

    images: str
    """Unlabelled images to train on: a folder, URI prefix or list. Masks beside them are not read. They are decoded
    once, into a file in the folder for temporary files (TMPDIR): 12 kB per image at 64 x 64, 200 kB at 256 x 256."""
    output: str
    """Folder or URI prefix for the bundle. The state of an unfinished training is kept there too."""
    image_size: int | None = None
    """Side of the network's square input, in pixels. Default: 64."""
    fit: FitMode | None = None
    """How to fit an image that is not square into that square: letterbox pads it, stretch distorts it. The bundle
    records it; ddpm-seg train, ddpm-seg label and ddpm_seg.load then do the same. Default: letterbox."""


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(Optimization, ImagesAndOutput):
    """Settings that both jobs share; subclasses add those of the network."""

    crop: float = 0.0
    """For small sets: also train on random crops, which lose up to this share of each side, such as 0.3. A DDPM
    sees none in the last quarter of the iterations, so that it does not draw crops. Needs another 1 / (1 - CROP)² of
    the space that the images take."""
    recolour: bool = False
    """For small sets: change the colours of all images slightly, anew in each batch. A DDPM sees them as they are in
    the last quarter of the iterations."""
    held_out: int = 0
    """For small sets: keep this many images, chosen at random, out of the training. It stops once the loss on them has
    not fallen for 2,500 batches, and the bundle gets the weights with the lowest loss. Default: 0, train on all images
    to the end."""
    compile: bool = False
    """Run the network through torch.compile. Training starts minutes later but runs faster, which pays off in long
    trainings. If compiling fails, the network trains uncompiled and the log says so."""
    num_workers: int | None = None
    """Number of Ray Train workers. Default: one per free GPU of the cluster, or of this machine if it has several; else
    0, which trains in this process."""

    def __post_init__(self) -> None:
        super().__post_init__()
        storage.normalize_places(self, "output")
        check_least(self, held_out=0)
        if not 0 <= self.crop <= 0.5:
            raise ValueError(f"crop is {self.crop}, expected a share from 0 to 0.5")

    def optimization(self) -> Optimization:
        """The settings that the weights depend on, besides the images and the network."""
        return Optimization(**{field.name: getattr(self, field.name) for field in dataclasses.fields(Optimization)})


@dataclass(frozen=True, kw_only=True)
class PretrainDDPMConfig(PretrainConfig):
    """Settings of `jobs.pretrain`. Those of the network have the names of guided-diffusion's flags."""

    start_from: str | None = None
    """Bundle of a DDPM to go on from, on your images. It decides the network's flags, and --image-size and --fit unless
    they are given. Default: begin with random weights."""
    num_channels: int = 32
    """Channels of the UNet's first resolution level."""
    num_res_blocks: int = 1
    """Residual blocks per resolution level."""
    channel_mult: tuple[int, ...] = (1, 1, 2, 4)
    """Channels of each resolution level, as multiples of --num-channels. One value per level."""
    attention_resolutions: tuple[int, ...] = (8,)
    """Sides, in pixels, of the feature maps that get self-attention."""
    noise_schedule: Literal["linear", "cosine"] = "linear"
    """How the noise grows over the 1000 diffusion steps."""


@dataclass(frozen=True, kw_only=True)
class PretrainMAEConfig(PretrainConfig):
    """Settings of `jobs.pretrain_mae`."""

    patch_size: int = 8
    """Side of a patch, in pixels. --image-size must be a multiple of it."""
    width: int = 192
    """Channels per token of the encoder."""
    depth: int = 12
    """Transformer blocks of the encoder. The decoder has a third as many, half as wide."""
    num_heads: int = 3
    """Attention heads per block of the encoder."""
