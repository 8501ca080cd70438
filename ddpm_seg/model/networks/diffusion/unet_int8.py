"""`--dtype int8`: the UNet's convolutions in 8-bit integers, run by oneDNN on CPUs with VNNI."""

# Shapes: N images, C channels, H x W pixels, K output channels.

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ddpm_seg.model.device.processor import refuse_without_vnni
from ddpm_seg.model.networks.diffusion.unet import UNet

WEIGHT_LEVELS, LEVELS = 127, 255


def to_int8(unet: UNet, device: torch.device) -> None:
    """Replaces the float32 convolutions of all blocks but the first.

    How well masks agree was measured only on this package's own UNet. Raises ValueError for a GPU, and for a CPU
    without VNNI.
    """
    if device.type != "cpu":
        raise ValueError(f"int8 runs only on CPUs; use bfloat16 or float16 on {device}")
    refuse_without_vnni()
    for blocks in (unet.input_blocks, unet.middle_block, unet.output_blocks):
        for parent in list(blocks.modules()):
            for name, child in parent.named_children():
                if type(child) is nn.Conv2d:
                    setattr(parent, name, Int8Conv2d(child))


class Int8Conv2d(nn.Module):
    """A convolution with weights and activations rounded to 8 bits; its output has its input's type.

    Weights have one scale per output channel, activations one per image, from the smallest to the largest value of each
    call: nothing needs calibration, and an image's result does not depend on other images.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.detach()
        self.scale_K = weight.flatten(1).abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / WEIGHT_LEVELS
        self.zero_K = torch.zeros_like(self.scale_K, dtype=torch.int32)
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.geometry = (list(conv.stride), [int(side) for side in conv.padding], list(conv.dilation), conv.groups)
        rounded = (weight / self.scale_K[:, None, None, None]).round().to(torch.int8)
        # 1.0 and 0 stand for the activations' scale and zero point, which each call gives instead.
        self.weight = torch.ops.onednn.qconv_prepack(rounded, self.scale_K, 1.0, 0, *self.geometry)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._convolve_one(image) for image in x.split(1)])

    def _convolve_one(self, x_1CHW: Tensor) -> Tensor:
        least, most = torch.aminmax(x_1CHW)
        low, high = min(least.item(), 0.0), max(most.item(), 0.0)  # zero, the value of the padding, must be a level
        scale = (high - low) / LEVELS or 1.0
        # Values that are not finite stay so, since the scale multiplies the output.
        zero = round(-low / scale) if math.isfinite(scale) else 0
        levels = (x_1CHW / scale).add_(zero).round_().clamp_(0, LEVELS).to(torch.uint8)
        return torch.ops.onednn.qconv2d_pointwise(
            levels, scale, zero, self.weight, self.scale_K, self.zero_K, self.bias, *self.geometry,
            1.0, 0, x_1CHW.dtype, "none", [], "",
        )  # fmt: skip
