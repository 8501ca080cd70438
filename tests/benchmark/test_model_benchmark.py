"""The benchmark's counts and shares. Not seconds, which depend on the machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from ddpm_seg.benchmark import measure
from ddpm_seg.benchmark.measure import PeakMemory, in_turn, ratio
from ddpm_seg.benchmark.model_benchmark import SEGMENTATION, ModelBenchmark, _flops, benchmark_model
from ddpm_seg.benchmark.profile import profiled
from ddpm_seg.benchmark.run import pictures
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.kernels.winograd import WinogradConv2d, winograd_works
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.published.convert import ConvertConfig, convert
from tests.model import tiny_networks
from tests.model.published.tiny_diffusers import pipeline

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    config = UNetConfig(
        image_size=32, num_channels=32, num_res_blocks=1, channel_mult=(1, 2), attention_resolutions=(16,), num_heads=2
    )
    return tiny_networks.bundle(config, FeatureConfig(steps=(50, 150, 250), blocks=(0, 2)))


@pytest.fixture(scope="module")
def measured(bundle: Bundle) -> ModelBenchmark:
    return benchmark_model(bundle, pictures(bundle)[:2], dtype="float32", device=CPU, rounds=2, reference=True)


def test_our_masks_are_the_transcriptions(measured: ModelBenchmark) -> None:
    assert measured.comparison is not None
    assert measured.comparison.equal_pixels >= 0.9999
    assert measured.comparison.speedup > 0


def test_a_whole_is_what_its_parts_cost(measured: ModelBenchmark) -> None:
    unet, head, whole, sampling = measured.parts.values()
    assert whole.flops == pytest.approx(unet.flops + head.flops)
    assert unet.flops < 3 * sampling.flops  # three timesteps, and nothing after the last block that is read
    for part in measured.parts.values():
        assert part.share_of_limit == pytest.approx(part.flops / part.seconds / measured.peak_flops)
    assert measured.images_per_hour == pytest.approx(3600 / measured.parts[SEGMENTATION].seconds)


@pytest.mark.skipif(not torch.cpu._is_vnni_supported(), reason="int8 needs a CPU with VNNI")
def test_operations_are_as_many_in_8_bits(bundle: Bundle, measured: ModelBenchmark) -> None:
    narrow = benchmark_model(bundle, pictures(bundle)[:2], dtype="int8", device=CPU, rounds=1, reference=False)
    assert {name: part.flops for name, part in narrow.parts.items()} == {
        name: part.flops for name, part in measured.parts.items()
    }
    assert narrow.peak_flops > 0


def test_every_round_is_kept(measured: ModelBenchmark) -> None:
    assert all(len(seconds) == 2 for seconds in measured.rounds.values())
    assert measured.labels.shape == (2, 32, 32)


def test_works_are_taken_in_turn() -> None:
    order: list[str] = []

    def noted(name: str) -> str:
        order.append(name)
        return f"{name}{len(order)}"

    seconds, results = in_turn({"a": lambda: noted("a"), "b": lambda: noted("b")}, 3, CPU)
    assert order == ["a", "b"] * 3
    assert results == {"a": "a5", "b": "b6"}
    assert [len(taken) for taken in seconds.values()] == [3, 3]


def test_a_ratio_is_taken_round_by_round() -> None:
    assert ratio([2.0, 40.0, 9.0], [1.0, 10.0, 3.0]) == 3


def test_peak_memory_is_what_was_held_at_once() -> None:
    with PeakMemory(CPU) as memory:
        for _ in range(3):
            held = torch.ones(40 * 2**20)  # 160 MiB
            held.sum()
            del held
    assert 0.9 * 160 * 2**20 < memory.bytes < 3 * 160 * 2**20


def test_there_is_no_transcription_of_another_unet(tmp_path: Path) -> None:
    other = convert(ConvertConfig(diffusers=pipeline(tmp_path), output=""))
    with pytest.raises(ValueError, match="--reference works with"):
        benchmark_model(other, pictures(other)[:1], dtype="float32", device=CPU, rounds=1, reference=True)


def test_a_profile_names_what_takes_most_time() -> None:
    one = torch.ones(1024, 1024)
    operations = profiled(lambda: one.mm(one).add(1), torch.device("cpu"))
    assert {"aten::mm", "aten::add"} <= {one.name for one in operations}
    assert operations == sorted(operations, key=lambda one: -one.seconds)
    assert sum(one.share for one in operations) == pytest.approx(1)


def test_the_limit_is_the_faster_of_product_and_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"product": 2.0, "convolution": 1e-3}
    monkeypatch.setattr(measure, "MATRIX_SIDE", {"cpu": measure.FIRST_SIDE})
    monkeypatch.setattr(measure, "_product_seconds", lambda *arguments: seconds["product"])
    monkeypatch.setattr(measure, "_convolution_seconds", lambda *arguments: seconds["convolution"])
    found = measure.peak_flops(torch.device("cpu"), torch.float32)
    assert found == pytest.approx(2 * 64**2 * 9 * 256**2 / 1e-3)


@pytest.mark.skipif(not winograd_works(), reason="this processor or build of PyTorch has no NNPACK")
def test_winograd_counts_as_the_convolution_that_it_replaces() -> None:
    conv = nn.Conv2d(64, 80, 3, padding=1)
    x = torch.zeros(2, 64, 50, 48)
    expected = 2 * 2 * 50 * 48 * 80 * 64 * 9
    with torch.inference_mode():
        assert _flops(lambda: WinogradConv2d(conv)(x)) == _flops(lambda: conv(x)) == expected
