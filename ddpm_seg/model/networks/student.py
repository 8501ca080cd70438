"""DatasetDDPM's student: torchvision's DeepLabV3 (Chen et al., 2017), which names every pixel in one pass."""

# Shapes: N images of S x S pixels, K classes.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large, deeplabv3_resnet50, deeplabv3_resnet101

from ddpm_seg.model.device.meta import weight_shapes
from ddpm_seg.model.limits import MAX_IMAGE_SIZE, MAX_RESOLUTION, check_range
from ddpm_seg.model.networks.backbones import Backbone
from ddpm_seg.tasks import UNLABELLED

_DEEPLAB = {
    "resnet101": deeplabv3_resnet101,
    "resnet50": deeplabv3_resnet50,
    "mobilenet_v3_large": deeplabv3_mobilenet_v3_large,
}

BATCH_NORM_MOMENTUM = 0.1  # torch's own default, and ResNet's


@dataclass(frozen=True, kw_only=True, slots=True)
class StudentConfig:
    """Which network."""

    title: ClassVar[str] = "student"

    backbone: Backbone
    num_classes: int
    image_size: int
    """S, side of its square input and output."""
    resolution: int
    """Side that images are enlarged to before the first convolution: the backbones look at an eighth (ResNet) or a
    sixteenth (MobileNetV3) of it."""

    def __post_init__(self) -> None:
        if self.backbone not in get_args(Backbone):
            raise ValueError(f"backbone is {self.backbone!r}, expected one of {', '.join(get_args(Backbone))}")
        check_range("image_size", self.image_size, MAX_IMAGE_SIZE)
        check_range("resolution", self.resolution, MAX_RESOLUTION)
        check_range("num_classes", self.num_classes, UNLABELLED)
        if self.resolution < self.image_size:
            raise ValueError(
                f"resolution is {self.resolution}, expected at least the side of the images, {self.image_size}"
            )

    def build(self) -> Student:
        """The network, with random weights."""
        return Student(self)


class Student(nn.Module):
    """Images (N, 3, S, S) as of `to_imagenet` to logits (N, K, S, S) float32."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        # Nothing is downloaded: torchvision's default is a backbone trained on ImageNet.
        model = _DEEPLAB[config.backbone](
            weights=None, weights_backbone=None, num_classes=config.num_classes, aux_loss=False
        )
        self.backbone, self.classifier = model.backbone, model.classifier
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                # MobileNetV3's 0.01 is for ImageNet's hundred thousands of batches: after a thousand, its running
                # statistics are still of weights long gone, and what was learnt is not seen in evaluation mode.
                module.momentum = BATCH_NORM_MOMENTUM

    def forward(self, x: Tensor) -> Tensor:
        resolution, size = self.config.resolution, self.config.image_size
        if resolution != size:
            x = F.interpolate(x, size=(resolution, resolution), mode="bilinear", align_corners=False)
        logits = self.classifier(self.backbone(x)["out"])
        return F.interpolate(logits.float(), size=(size, size), mode="bilinear", align_corners=False)


def backbone_weights(classifier: Mapping[str, Tensor], config: StudentConfig) -> dict[str, Tensor]:
    """The entries of a torchvision classifier's state dict that initialise `Student.backbone`.

    Raises ValueError where one is missing or of another shape: the classifier is another network.
    """
    found = {}
    for key, shape in weight_shapes(config).items():
        if not key.startswith("backbone."):
            continue
        name = key.removeprefix("backbone.")
        # MobileNetV3's layers are numbered in DeepLab, and in the classifier they stand under "features".
        source = f"features.{name}" if config.backbone.startswith("mobilenet") else name
        if source not in classifier or classifier[source].shape != shape:
            raise ValueError(f"expected the weights of torchvision's {config.backbone}; {source} does not fit")
        found[name] = classifier[source]
    return found
