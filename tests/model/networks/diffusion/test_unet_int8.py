"""8-bit convolutions beside the same ones in float32."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ddpm_seg.data.decoding.images import decode
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle
from ddpm_seg.model.bundle.files import ASSETS
from ddpm_seg.model.networks.diffusion.unet import UNet
from ddpm_seg.model.networks.diffusion.unet_int8 import Int8Conv2d, to_int8
from ddpm_seg.model.resident import resident_drawer, resident_extractor
from ddpm_seg.model.samples.sampling import SamplingConfig
from ddpm_seg.model.segmenter import Segmenter

pytestmark = pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="int8 needs a CPU with VNNI")


@pytest.mark.parametrize("geometry", [{"padding": 1}, {"padding": 1, "stride": 2}, {"kernel_size": 1}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_convolution_errs_as_little_as_its_levels_allow(geometry: dict[str, int], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 32, **{"kernel_size": 3, **geometry}).eval()
    x = torch.nn.functional.silu(torch.randn(3, 64, 16, 16) * torch.tensor([1, 10, 0.1])[:, None, None, None])
    with torch.inference_mode():
        expected, found = conv(x), Int8Conv2d(conv)(x.to(dtype))
    assert found.dtype == dtype
    assert found.shape == expected.shape
    error = (found.float() - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)
    assert (error < 0.02).all(), error


def test_weights_and_activations_of_few_levels_are_exact() -> None:
    """Products of small integers are: every rounding but that of the scales is left out."""
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 8, 3, padding=1, bias=False).eval()
    conv.weight.data = torch.randint(-127, 128, conv.weight.shape).float()
    conv.weight.data[:, 0, 0, 0] = 127
    x = torch.randint(-100, 156, (2, 16, 8, 8)).float()
    x[:, 0, 0, :2] = torch.tensor([-100, 155.0])
    with torch.inference_mode():
        torch.testing.assert_close(Int8Conv2d(conv)(x), conv(x), rtol=1e-5, atol=1e-2)


def test_an_image_depends_on_no_other() -> None:
    torch.manual_seed(0)
    conv = Int8Conv2d(nn.Conv2d(8, 8, 3, padding=1))
    x = torch.randn(3, 8, 8, 8) * torch.tensor([1, 100, 0.01])[:, None, None, None]
    with torch.inference_mode():
        together = conv(x)
        for index in range(3):
            assert torch.equal(conv(x[index : index + 1])[0], together[index])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_stays_so(value: float) -> None:
    """So that `jobs.label` says it of the image."""
    x = torch.ones(2, 8, 4, 4)
    x[0, 0, 0, 0] = value
    with torch.inference_mode():
        found = Int8Conv2d(nn.Conv2d(8, 8, 3, padding=1))(x)
    assert not found[0].isfinite().any()
    assert found[1].isfinite().all()


def test_zeros_are_zeros() -> None:
    conv = Int8Conv2d(nn.Conv2d(8, 8, 3, bias=False))
    with torch.inference_mode():
        assert not conv(torch.zeros(1, 8, 4, 4)).any()


def test_the_masks_of_the_model_in_the_box() -> None:
    bundle = load_bundle("avatars-10")
    images = np.stack([decode(path.read_bytes()) for path in sorted((ASSETS / "samples").glob("*.png"))])
    exact = Segmenter(bundle, device="cpu").segment(images)
    found = Segmenter(bundle, device="cpu", dtype="int8").segment(images)
    assert np.mean([a.label == b.label for a, b in zip(exact, found, strict=True)]) > 0.99
    unet = resident_extractor(bundle, "cpu", "int8").unet
    assert sum(isinstance(module, Int8Conv2d) for module in unet.modules()) > 10


def test_the_samples_of_the_model_in_the_box() -> None:
    bundle = load_bundle("avatars-10")
    images = {}
    for dtype in ("float32", "int8"):
        drawer = resident_drawer(bundle, SamplingConfig(steps=5, eta=0), "cpu", dtype, batch_size=2)
        images[dtype] = np.stack([drawn.image for drawn in drawer.draw(0, [0, 1])]).astype(int)
    assert np.abs(images["int8"] - images["float32"]).mean() < 4  # of 255


def test_gpus_and_other_cpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        unet = UNet(load_bundle("avatars-10").ddpm.unet)
    with pytest.raises(ValueError, match="use bfloat16 or float16"):
        to_int8(unet, torch.device("cuda"))
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    with pytest.raises(ValueError, match="needs a CPU with VNNI"):
        to_int8(unet, torch.device("cpu"))
