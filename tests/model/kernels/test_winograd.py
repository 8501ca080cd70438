"""Winograd's convolution beside the ordinary one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.kernels import winograd
from ddpm_seg.model.kernels.winograd import LEAST_SIDE, WinogradConv2d, use_winograd, winograd_works
from ddpm_seg.model.networks.diffusion import ddpm
from ddpm_seg.model.networks.diffusion.ddpm import DDPMConfig
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.resident import resident_extractor

needs_nnpack = pytest.mark.skipif(not winograd_works(), reason="this processor or build of PyTorch has no NNPACK")


def convolution(inputs: int, outputs: int, *, bias: bool = True, **options: Any) -> nn.Conv2d:
    torch.manual_seed(inputs)
    return nn.Conv2d(inputs, outputs, 3, bias=bias, **({"padding": 1} | options)).requires_grad_(False)


@needs_nnpack
@pytest.mark.parametrize("sides", [(48, 48), (53, 64), (49, 71)])
@pytest.mark.parametrize(("inputs", "outputs", "bias"), [(64, 64, True), (70, 96, True), (128, 65, False)])
def test_it_gives_what_a_float64_convolution_gives(
    sides: tuple[int, int], inputs: int, outputs: int, bias: bool
) -> None:
    conv = convolution(inputs, outputs, bias=bias)
    x = torch.randn(3, inputs, *sides)
    expected = F.conv2d(x.double(), conv.weight.double(), None if conv.bias is None else conv.bias.double(), padding=1)
    found = WinogradConv2d(conv)(x)
    assert (found - expected).abs().max() < 2e-5 * expected.abs().max()
    # Neither the other images of a batch nor the memory's layout changes an image.
    assert torch.equal(found[1:2], WinogradConv2d(conv)(x[1:2]))
    assert torch.equal(found, WinogradConv2d(conv)(x.to(memory_format=torch.channels_last)))


def test_small_maps_take_the_ordinary_way() -> None:
    conv, x = convolution(64, 64), torch.randn(2, 64, LEAST_SIDE - 1, 80)
    assert torch.equal(WinogradConv2d(conv)(x), conv(x))


def test_only_plain_convolutions_of_many_channels_are_replaced() -> None:
    others = [
        convolution(64, 63), convolution(64, 64, stride=2), convolution(64, 64, padding=0),
        convolution(64, 64, groups=2), convolution(64, 64, dilation=2), convolution(64, 64, padding_mode="reflect"),
        nn.Conv2d(64, 64, 1), nn.Conv2d(64, 64, 5, padding=1),
    ]  # fmt: skip
    network = nn.Sequential(*others, nn.Sequential(convolution(64, 64)))
    use_winograd(network)
    assert list(network[:-1]) == others
    assert isinstance(next(network[-1].children()), WinogradConv2d)


def test_a_wrong_convolution_is_not_used() -> None:
    class Wrong(WinogradConv2d):
        def forward(self, x_NCHW: Tensor) -> Tensor:
            return super().forward(x_NCHW) * 1.001

    assert not winograd._agrees(Wrong)


def maps_of_a_large_unet(monkeypatch: pytest.MonkeyPatch, *, fast: bool) -> tuple[list[Tensor], int]:
    """Maps of two images, and how many convolutions were replaced."""
    monkeypatch.setattr(ddpm, "winograd_works", lambda: fast)
    unet = UNetConfig(
        image_size=64, num_channels=64, num_res_blocks=1, channel_mult=(1, 2), attention_resolutions=(32,), num_heads=2
    )
    network = DDPMConfig(unet=unet, diffusion=DiffusionConfig(steps=100, noise_schedule="linear"))
    torch.manual_seed(0)
    weights = {key: torch.randn_like(value) / 20 for key, value in network.build().state_dict().items()}
    extract: Any = resident_extractor(Bundle(network=network, weights=weights, noise=torch.randn(1, 3, 64, 64)), "cpu")
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    maps = extract(images, FeatureConfig(steps=(5, 50), blocks=(0, 1, 2, 3)))
    return maps, sum(isinstance(module, WinogradConv2d) for module in extract.unet.modules())


@needs_nnpack
def test_a_unet_of_large_maps_gives_the_same_features(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, none = maps_of_a_large_unet(monkeypatch, fast=False)
    found, some = maps_of_a_large_unet(monkeypatch, fast=True)
    assert (none, some > 5) == (0, True)
    for ours, plain in zip(found, expected, strict=True):
        assert not torch.equal(ours, plain) or min(plain.shape[-2:]) < LEAST_SIDE
        assert (ours - plain).abs().max() < 1e-4 * plain.abs().max()


def test_the_model_in_the_box_stays_as_it_was() -> None:
    """Its maps of 48 x 48 and more have 32 channels."""
    bundle = load_bundle("avatars-10")
    unet: Any = resident_extractor(bundle, "cpu").unet  # type: ignore[attr-defined]
    assert not any(isinstance(module, WinogradConv2d) for module in unet.modules())
