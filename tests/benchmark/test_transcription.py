"""The transcription runs where the model runs. That it is the published method: tests/model/test_golden.py."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ddpm_seg.benchmark import transcription
from ddpm_seg.benchmark.model_benchmark import benchmark_model
from ddpm_seg.benchmark.run import pictures
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.networks.pixel_values import to_network
from tests.model import tiny_networks


@pytest.mark.parametrize("resblock_updown", [False, True])
def test_nothing_stays_behind_on_the_cpu(resblock_updown: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors that only pretend to be on a GPU refuse to meet others, as real ones do; their values are not known, so
    the vote is left out."""
    monkeypatch.setattr(transcription, "ensemble", lambda logits_MPK: (logits_MPK,))
    config = UNetConfig(
        image_size=32,
        num_channels=32,
        num_res_blocks=1,
        channel_mult=(1, 2),
        attention_resolutions=(16,),
        num_heads=2,
        resblock_updown=resblock_updown,
    )
    bundle = tiny_networks.bundle(config, FeatureConfig(steps=(50, 150), blocks=(0, 2)))
    with FakeTensorMode(allow_non_fake_inputs=True):
        gpu = torch.device("cuda", 0)
        there = transcription.on_device(bundle, gpu)
        x_0 = torch.empty(1, 3, 32, 32, device=gpu)
        decoded, _ = transcription.unet(config, there.weights, x_0, torch.tensor([50], device=gpu))
        assert {one.device for one in decoded} == {gpu}
        logits_MPK = transcription.segment(there, x_0)
    assert (logits_MPK.shape[:2], logits_MPK.device) == ((len(bundle.members), 32 * 32), gpu)


def test_weights_are_converted_once() -> None:
    """Else each image would pay for it, and the published code would seem slower than it is."""
    bundle = load_bundle("avatars-10")
    assert {value.dtype for value in bundle.weights.values()} == {torch.float16}
    there = transcription.on_device(bundle, torch.device("cpu"))
    assert {value.dtype for value in there.weights.values()} == {torch.float32}
    again = transcription.on_device(there, torch.device("cpu"))
    assert all(again.weights[key].data_ptr() == value.data_ptr() for key, value in there.weights.items())


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    bundle = load_bundle("avatars-10")
    gpu, image = torch.device("cuda"), pictures(bundle)[:1]
    devices = (torch.device("cpu"), gpu)
    here, there = (
        transcription.segment(transcription.on_device(bundle, device), to_network(image, device)) for device in devices
    )
    assert (here == there).float().mean() > 0.99
    measured = benchmark_model(bundle, image, dtype="float32", device=gpu, rounds=1, reference=True)
    assert measured.comparison is not None
    assert measured.comparison.equal_pixels > 0.99
