"""`--dtype int8`: the UNet's convolutions in 8-bit integers on CPUs with VNNI, by oneDNN."""

# Shapes: N images, C channels, H x W pixels, K output channels.

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ddpm_seg.model.networks.unet import UNet

WEIGHT_LEVELS, LEVELS = 127, 255


def to_int8(unet: UNet, device: torch.device) -> None:
    """Replaces the convolutions of all blocks, but for the first one, of float32 weights.

    The masks' agreement was measured on this package's UNet alone. Raises ValueError for a GPU or a CPU without VNNI,
    where oneDNN's sums of products may overflow.
    """
    if device.type != "cpu":
        raise ValueError(f"int8 is for CPUs; on {device} take bfloat16 or float16")
    if not torch.cpu._is_vnni_supported():
        raise ValueError("int8 needs a CPU with VNNI instructions, and this one has none; take float32 or bfloat16")
    for blocks in (unet.input_blocks, unet.middle_block, unet.output_blocks):
        for parent in list(blocks.modules()):
            for name, child in parent.named_children():
                if type(child) is nn.Conv2d:
                    setattr(parent, name, Int8Conv2d(child))


class Int8Conv2d(nn.Module):
    """A convolution whose weights and activations are rounded to 8 bits; what it returns has its input's type.

    Weights have one scale for each output channel; activations one for each image, from the smallest to the largest
    value, taken at each call: nothing has to be calibrated, and an image's result depends on no other image.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        weight = conv.weight.detach()
        self.scale_K = weight.flatten(1).abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny) / WEIGHT_LEVELS
        self.zero_K = torch.zeros_like(self.scale_K, dtype=torch.int32)
        self.bias = None if conv.bias is None else conv.bias.detach()
        self.geometry = (list(conv.stride), [int(side) for side in conv.padding], list(conv.dilation), conv.groups)
        rounded = (weight / self.scale_K[:, None, None, None]).round().to(torch.int8)
        # The arguments 1.0 and 0 are the activations' scale and zero, which are given at each call instead.
        self.weight = torch.ops.onednn.qconv_prepack(rounded, self.scale_K, 1.0, 0, *self.geometry)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self._of_one(image) for image in x.split(1)])

    def _of_one(self, x_1CHW: Tensor) -> Tensor:
        least, most = torch.aminmax(x_1CHW)
        low, high = min(least.item(), 0.0), max(most.item(), 0.0)  # zero, of which the padding is, has to be a level
        scale = (high - low) / LEVELS or 1.0
        # What is not finite stays so: the scale multiplies what comes out.
        zero = round(-low / scale) if math.isfinite(scale) else 0
        levels = (x_1CHW / scale).add_(zero).round_().clamp_(0, LEVELS).to(torch.uint8)
        return torch.ops.onednn.qconv2d_pointwise(
            levels, scale, zero, self.weight, self.scale_K, self.zero_K, self.bias, *self.geometry,
            1.0, 0, x_1CHW.dtype, "none", [], "",
        )  # fmt: skip
