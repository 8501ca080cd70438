"""The GPU's kernels give what PyTorch's operations give. For a process with TRITON_INTERPRET=1: see test_kernels.py."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ddpm_seg.model import top_classes
from ddpm_seg.model.ensemble import Ensemble, member_shapes
from ddpm_seg.model.kernels import checked
from ddpm_seg.model.kernels.top_classes import top_classes as kernel_of_top_classes
from ddpm_seg.model.networks.diffusion import unet_blocks
from ddpm_seg.model.networks.diffusion.unet import UNet, UNetConfig
from ddpm_seg.model.top_classes import by_sorting
from ddpm_seg.model.voting import Votes

pytestmark = pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # numpy, within the interpreter


@pytest.fixture(scope="module")
def kernels() -> checked.UNetKernels:
    found = checked._unet_kernels.__wrapped__(torch.device("cpu"))
    assert found is not None  # each has agreed with PyTorch
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("channels", "height", "width"), [(96, 5, 7), (64, 40, 33)])
def test_group_norm(kernels: checked.UNetKernels, channels: int, height: int, width: int, dtype: torch.dtype) -> None:
    """A mean much larger than the deviation costs sums of squares their digits."""
    x = (torch.randn(2, channels, height, width) * 3 + 1000).to(dtype)
    weight, bias = torch.randn(2, channels)
    found = kernels.group_norm(x, weight, bias, 32, 1e-5, silu=False)
    expected = F.group_norm(x.double(), 32, weight.double(), bias.double(), 1e-5)
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), expected, atol=0.05 if dtype == torch.bfloat16 else 1e-3, rtol=1e-2)


@pytest.mark.parametrize("scale_shift", [True, False])
def test_unet(kernels: checked.UNetKernels, scale_shift: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    config = UNetConfig(
        image_size=16, num_channels=32, num_res_blocks=1, channel_mult=(1, 2), attention_resolutions=(8,),
        resblock_updown=scale_shift, use_scale_shift_norm=scale_shift,
    )  # fmt: skip
    torch.manual_seed(0)
    network = UNet(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.normal_(0, 1 / max(parameter[0].numel(), 9) ** 0.5)
    x_t, t_N, blocks = torch.randn(2, 3, 16, 16), torch.tensor([5, 7]), [0, 1, 2, 3]
    plain = network.activations(x_t, t_N, blocks)
    monkeypatch.setattr(unet_blocks, "unet_kernels", lambda x: kernels)
    for found, expected in zip(network.activations(x_t, t_N, blocks), plain, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])  # the interpreter cannot multiply bfloat16
@pytest.mark.parametrize(("classes", "mode"), [(2, "bilinear"), (5, "nearest"), (31, "bilinear")])
def test_votes(classes: int, mode: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    channels, sides, size = (8, 16, 8), (4, 4, 8), (8, 8)
    members = [_member(classes, sum(channels)) for _ in range(3)]
    ensemble = Ensemble(members, channels=channels, sides=sides, upsample_mode=mode)
    fused = ensemble._fused(channels, sides, dtype)
    assert fused is not None
    maps = [torch.randn(1, c, side, side) for c, side in zip(channels, sides, strict=True)]
    tolerance = 1e-3 if dtype == torch.float32 else 0.05
    _assert_equal(fused(maps, size), next(iter(ensemble(maps, size))), tolerance)


@pytest.mark.parametrize("classes", [1, 2, 3, 34, 255])
def test_top_classes(classes: int) -> None:
    p_KRW = torch.randn(classes, 9, 31).softmax(dim=0)
    ids, parts = kernel_of_top_classes(p_KRW, min(3, classes))
    expected_ids, expected = by_sorting(p_KRW, min(3, classes))
    assert torch.equal(ids, expected_ids)
    assert ((parts.int() - expected.int()).abs() <= 1).all()
    assert top_classes.kernel_agrees(kernel_of_top_classes, torch.device("cpu"))


def test_ties_go_to_the_smallest_class() -> None:
    """Two members that disagree everywhere."""
    torch.manual_seed(0)
    first = _member(4, 8)
    second = dict(first)
    for name in ("layers.6.weight", "layers.6.bias"):
        second[name] = -first[name]
    ensemble = Ensemble([first, second], channels=[8], sides=[8], upsample_mode="bilinear")
    fused, maps = ensemble._fused([8], [8], torch.float32), [torch.randn(1, 8, 8, 8)]
    assert fused is not None
    found = fused(maps, (8, 8))
    hidden = ensemble.first_layer([maps[0][0]])
    choices = torch.stack([one.argmax(dim=1) for one in ensemble.logits(hidden, range(8), (8, 8))])
    assert (choices[0] != choices[1]).all()
    assert torch.equal(found.label.flatten(), choices.amin(dim=0).to(torch.uint8))


def test_a_kernel_that_is_wrong_or_missing_is_not_used(caplog: pytest.LogCaptureFixture) -> None:
    def missing() -> None:
        raise ModuleNotFoundError("No module named 'triton'")

    assert checked.usable("norm", missing, lambda kernel: True) is None
    assert checked.usable("norm", lambda: abs, lambda kernel: False) is None
    assert "No module named 'triton'" in caplog.text
    assert "its results differ" in caplog.text


def _member(classes: int, dim: int) -> dict[str, Tensor]:
    return {
        name: torch.rand(shape) + 0.5 if name.endswith("running_var") else torch.randn(shape)
        for name, shape in member_shapes(classes, dim).items()
    }


def _assert_equal(found: Votes, expected: Votes, tolerance: float) -> None:
    assert (found.label == expected.label).float().mean() > 0.98
    for name in ("uncertainty", "confidence", "probabilities"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=tolerance, rtol=1e-3)
