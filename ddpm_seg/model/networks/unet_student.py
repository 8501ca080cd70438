"""A student that is a small U-Net: its last maps have the images' own resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from ddpm_seg.model.limits import MAX_IMAGE_SIZE, check_range
from ddpm_seg.model.networks.plain_unet import PlainUNet
from ddpm_seg.tasks import UNLABELLED

LEVELS = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class UNetStudentConfig:
    """The architecture of a `PlainUNet` as a student: the one that jobs.compare trains."""

    title: ClassVar[str] = "student"

    architecture: Literal["unet"] = "unet"
    num_classes: int
    image_size: int
    """S, the side of the square input and output: a multiple of 8."""
    width: int = 24
    """Channels of the first level; each of the three lower ones has twice as many."""

    def __post_init__(self) -> None:
        check_range("image_size", self.image_size, MAX_IMAGE_SIZE)
        check_range("num_classes", self.num_classes, UNLABELLED)
        check_range("width", self.width, 1024)
        if self.image_size % 2 ** (LEVELS - 1):
            raise ValueError(f"image_size is {self.image_size}, expected a multiple of {2 ** (LEVELS - 1)} for a U-Net")

    def build(self) -> PlainUNet:
        """The network, with random weights. It takes images (N, 3, S, S), scaled by `to_imagenet`."""
        return PlainUNet(self.num_classes, width=self.width, levels=LEVELS)
