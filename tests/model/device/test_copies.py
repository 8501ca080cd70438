"""Nothing between pixels and votes, or noise and samples, waits for the device.

The meta device stands in for a GPU: it computes nothing, so whatever reads a value of it fails, and copies to it are
seen by the dispatcher as a GPU's are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ddpm_seg.cluster.training_workers import Worker
from ddpm_seg.model.device.copies import to_device, to_host
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.diffusion.ddpm_generator import Generator
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.resident import resident_extractor
from ddpm_seg.model.samples.sample_noise import SampleNoise
from ddpm_seg.model.samples.sampling import Sampler, SamplingConfig
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.training.network.denoising import Denoising
from ddpm_seg.training.network.network_training import NetworkTraining
from ddpm_seg.training.optimization import Optimization
from tests.model.tiny_networks import bundle, images, normal

CONFIG = UNetConfig(image_size=16, num_channels=32, num_res_blocks=1, channel_mult=(1, 2), attention_resolutions=(8,))
FEATURES = FeatureConfig(steps=(50, 150), blocks=(0, 2, 3))
META = torch.device("meta")


class Copies(TorchDispatchMode):
    """Of every copy from one device to another, whether the CPU goes on meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.asynchronous: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.to, torch.ops.aten._to_copy) and result.device != args[0].device:
            names = (argument.name for argument in func._schema.arguments)
            given = {**dict(zip(names, args, strict=False)), **(kwargs or {})}
            self.asynchronous.append(bool(given.get("non_blocking")))
        return result


@contextmanager
def no_waiting(at_least: int) -> Iterator[None]:
    with Copies() as copies:
        yield
    assert len(copies.asynchronous) >= at_least
    assert all(copies.asynchronous)


def test_a_plain_copy_is_found_out() -> None:
    with pytest.raises(AssertionError), no_waiting(at_least=1):
        torch.zeros(3).to("meta")
    with pytest.raises(AssertionError), no_waiting(at_least=1):
        torch.as_tensor([0.5], device="meta")


@pytest.mark.parametrize("upsample_mode", ["bilinear", "nearest"])
def test_segmentation_waits_for_nothing(upsample_mode: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    features = FeatureConfig(steps=FEATURES.steps, blocks=FEATURES.blocks, upsample_mode=upsample_mode)
    monkeypatch.setattr("ddpm_seg.model.segmenter.chosen_device", torch.device)  # which refuses this device
    segmenter = Segmenter(bundle(CONFIG, features), device="meta", batch_size=4)
    with no_waiting(at_least=3):
        votes = list(segmenter.votes(images(3, 16)))
    assert [one.label.shape for one in votes] == [(16, 16)] * 3


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm-solver++"])
def test_sampling_waits_for_nothing(sampler: Sampler) -> None:
    model = bundle(CONFIG, FEATURES)
    how = SamplingConfig(sampler=sampler, steps=3)
    generator = Generator(resident_extractor(model, "meta"), how, batch_size=2)
    noise = SampleNoise(0, [0, 1], 16, META)
    with no_waiting(at_least=3), torch.inference_mode():
        assert generator._run(noise(), noise).shape == (2, 3, 16, 16)


def test_an_iteration_of_pretraining_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which the meta device does not know
    objective = Denoising(CONFIG, DiffusionConfig())
    training = NetworkTraining(objective, Optimization(batch_size=4), Worker(device="meta"))
    with no_waiting(at_least=3):
        training.step(images(4, 16))
    assert training.loss.is_meta


def test_on_a_cpu_nothing_is_copied() -> None:
    x = normal(0, 2, 3)
    assert to_device(x, "cpu") is x
    (found,) = to_host(iter([{"x": x}]), torch.device("cpu"))
    assert found["x"].ctypes.data == x.data_ptr()
