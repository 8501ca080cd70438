"""DatasetDDPM's student: torchvision's DeepLabV3 (Chen et al., 2017), which classifies all pixels in one pass."""

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
    """A student's architecture."""

    title: ClassVar[str] = "student"

    backbone: Backbone
    num_classes: int
    image_size: int
    """S, the side of the square input and output."""
    resolution: int
    """Images are enlarged to this side before the first convolution. The backbones' maps have an eighth (ResNet) or a
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
    """Images (N, 3, S, S), scaled by `to_imagenet`, to logits (N, K, S, S) float32."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        # Download nothing: torchvision's default is a backbone trained on ImageNet.
        model = _DEEPLAB[config.backbone](
            weights=None, weights_backbone=None, num_classes=config.num_classes, aux_loss=False
        )
        self.backbone, self.classifier = model.backbone, model.classifier
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                # MobileNetV3's 0.01 is meant for the hundreds of thousands of batches of ImageNet. After a thousand
                # batches its running statistics still reflect early weights, which spoils evaluation mode.
                module.momentum = BATCH_NORM_MOMENTUM

    def forward(self, x: Tensor) -> Tensor:
        resolution, size = self.config.resolution, self.config.image_size
        if resolution != size:
            x = F.interpolate(x, size=(resolution, resolution), mode="bilinear", align_corners=False)
        logits = self.classifier(self.backbone(x)["out"])
        return F.interpolate(logits.float(), size=(size, size), mode="bilinear", align_corners=False)


def backbone_weights(classifier: Mapping[str, Tensor], config: StudentConfig) -> dict[str, Tensor]:
    """The entries of a torchvision classifier's state dict that initialise `Student.backbone`.

    Raises ValueError if one is missing or has another shape, because the classifier is another network.
    """
    found = {}
    for key, shape in weight_shapes(config).items():
        if not key.startswith("backbone."):
            continue
        name = key.removeprefix("backbone.")
        # MobileNetV3's layers have only numbers in DeepLab, but the prefix "features" in the classifier.
        source = f"features.{name}" if config.backbone.startswith("mobilenet") else name
        if source not in classifier or classifier[source].shape != shape:
            raise ValueError(f"expected the weights of torchvision's {config.backbone}; {source} does not fit")
        found[name] = classifier[source]
    return found
