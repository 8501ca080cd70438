"""3 x 3 convolutions of large float32 maps on a CPU, by Winograd's minimal filtering F(6 x 6, 3 x 3).

64 products per pair of channels give a tile of 6 x 6 outputs that takes 324 otherwise (Lavin and Gray, 2016,
https://arxiv.org/abs/1509.09308, section 4). NNPACK computes it. PyTorch's CPU builds have it under a private name,
so it is compared with the ordinary convolution before use.
"""

# Shapes: N images, C channels, H x W pixels.

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_seg.model.kernels.checked import usable

LEAST_SIDE, LEAST_CHANNELS = 48, 64
"""Smaller maps are no faster this way: transforming the weights costs more than the products save."""


class WinogradConv2d(nn.Module):
    """A 3 x 3 convolution with padding 1, for inference.

    Differs from the ordinary one, which small maps still take, by at most 2e-5 of the largest output.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.weight = nn.Parameter(conv.weight.detach().contiguous(), requires_grad=False)
        self.bias = conv.bias

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if min(x_NCHW.shape[-2:]) < LEAST_SIDE:
            return F.conv2d(x_NCHW, self.weight, self.bias, padding=1)
        # One by one: NNPACK has another, slower way for several images.
        images = x_NCHW.contiguous().split(1)
        found = [torch._nnpack_spatial_convolution(image, self.weight, self.bias, 1, 1) for image in images]
        return torch.cat(found) if len(found) > 1 else found[0]


def use_winograd(network: nn.Module) -> None:
    """Replaces the convolutions that large maps may go through. `network` holds float32 weights on a CPU, as NCHW."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Conv2d and _fits(child):
                setattr(parent, name, WinogradConv2d(child))


def _fits(conv: nn.Conv2d) -> bool:
    plain = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode)
    channels = min(conv.in_channels, conv.out_channels)
    return plain == ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros") and channels >= LEAST_CHANNELS


@cache
def winograd_works() -> bool:
    """Whether this machine's PyTorch has NNPACK, for this processor, and it gives what oneDNN gives."""
    # Asking also starts NNPACK up.
    return torch._nnpack_available() and usable("Winograd convolution", lambda: WinogradConv2d, _agrees) is not None


def _agrees(kind: type[WinogradConv2d]) -> bool:
    generator = torch.Generator().manual_seed(0)
    conv = nn.Conv2d(LEAST_CHANNELS, LEAST_CHANNELS, 3, padding=1).requires_grad_(False)
    for parameter in conv.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator))
    x = torch.randn(2, LEAST_CHANNELS, LEAST_SIDE, LEAST_SIDE + 5, generator=generator)
    expected = conv(x)
    return bool((kind(conv)(x) - expected).abs().max() < 1e-4 * expected.abs().max())
