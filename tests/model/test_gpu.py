"""A GPU gives the same results as the CPU. Without a GPU, the CPU is compared with itself, so that the tests run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache

import numpy as np
import pytest
import torch

from ddpm_seg.cluster.training_workers import Worker
from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.data.canvas import Placement
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle
from ddpm_seg.model.bundle.student_bundle import StudentBundle
from ddpm_seg.model.device.dtypes import FloatDType
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.diffusion.ddpm_generator import Generator
from ddpm_seg.model.networks.student import Student, StudentConfig
from ddpm_seg.model.resident import resident_extractor
from ddpm_seg.model.samples.sample_noise import SampleNoise
from ddpm_seg.model.samples.sampling import Sampler, SamplingConfig
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.model.student_segmenter import StudentSegmenter
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig
from ddpm_seg.training.ensemble.few_shot import train_bundle
from ddpm_seg.training.network.denoising import Denoising
from ddpm_seg.training.network.network_training import NetworkTraining
from ddpm_seg.training.optimization import Optimization
from tests.model.tiny_networks import images
from tests.tiny_bundle import TASK, tiny_bundle

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@cache
def model() -> Bundle:
    return load_bundle("avatars-10")


@contextmanager
def no_waiting() -> Iterator[None]:
    """CUDA's own watch over calls that wait for the GPU."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(("dtype", "share"), [("float32", 0.999), ("bfloat16", 0.98), ("float16", 0.99)])
@pytest.mark.parametrize("device", DEVICES)
def test_labels(device: str, dtype: FloatDType, share: float) -> None:
    pictures = images(3, 64)
    expected = Segmenter(model(), device="cpu").segment(pictures)
    found = Segmenter(model(), device=device, dtype=dtype).segment(pictures)
    assert np.mean([(a.label == b.label) for a, b in zip(found, expected, strict=True)]) > share
    if dtype == "float32":
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_allclose(a.uncertainty, b.uncertainty, atol=2e-3)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm-solver++"])
@pytest.mark.parametrize("device", DEVICES)
def test_samples(device: str, sampler: Sampler) -> None:
    def drawn(where: str) -> np.ndarray:
        how = SamplingConfig(sampler=sampler, steps=4)
        generator = Generator(resident_extractor(model(), where), how, batch_size=2)
        return np.stack([one.image for one in generator.draw(0, range(2)) if one.image is not None]).astype(int)

    assert np.abs(drawn(device) - drawn("cpu")).mean() < 1  # of 255


@pytest.mark.parametrize("device", DEVICES)
def test_a_student(device: str) -> None:
    config = StudentConfig(backbone="mobilenet_v3_large", num_classes=TASK.num_classes, image_size=16, resolution=32)
    torch.manual_seed(0)
    bundle = StudentBundle(student=config, weights=Student(config).state_dict(), task=TASK)
    found, expected = (StudentSegmenter(bundle, device=where).segment(images(3, 16)) for where in (device, "cpu"))
    for a, b in zip(found, expected, strict=True):
        assert (a.label == b.label).mean() > 0.99
        np.testing.assert_allclose(a.uncertainty, b.uncertainty, atol=2e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_training_an_ensemble(device: str) -> None:
    label = np.arange(256, dtype=np.uint8).reshape(16, 16) // 64
    whole = Placement(left=0, top=0, width=16, height=16, image_width=16, image_height=16)
    annotations = [
        Annotation(uri=str(i), image=one, label=label, placement=whole) for i, one in enumerate(images(3, 16))
    ]
    features, how = FeatureConfig(steps=(10,), blocks=(0, 1)), EnsembleConfig(members=2, iterations=60)
    trained, plain = (
        train_bundle(tiny_bundle(), annotations, task=TASK, features=features, training=how, device=where)
        for where in (device, "cpu")
    )
    losses = [one.provenance["ensemble"]["final_loss"] for one in (trained, plain)]
    np.testing.assert_allclose(*losses, rtol=0.1)


@pytest.mark.parametrize("device", DEVICES)
def test_training_a_ddpm(device: str) -> None:
    def loss(where: str) -> float:
        bundle = tiny_bundle()
        objective = Denoising(bundle.ddpm.unet, bundle.ddpm.diffusion)
        training = NetworkTraining(objective, Optimization(batch_size=4), Worker(device=where))
        for _ in range(5):
            training.step(images(4, 16))
        return float(training.loss)

    assert loss(device) == pytest.approx(loss("cpu"), rel=0.02)


@pytest.mark.gpu
def test_nothing_waits_for_the_gpu() -> None:
    segmenter, device = Segmenter(model(), device="cuda", dtype="bfloat16"), torch.device("cuda")
    generator = Generator(segmenter.extractor, SamplingConfig(steps=4), batch_size=2)
    for watch in (nullcontext, no_waiting):  # the first calls may, to choose their kernels
        noise = SampleNoise(0, [0, 1], 64, device)
        with watch(), torch.inference_mode():
            list(segmenter.votes(images(2, 64)))
            generator._run(noise(), noise)


@pytest.mark.gpu
def test_the_batch_is_as_large_as_memory_allows() -> None:
    few, whole = images(1, 64).repeat(300, axis=0), torch.cuda.get_device_properties(0).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction(2**30 / whole)
        segmenter = Segmenter(model(), device="cuda", batch_size=2048)
        labels = segmenter.segment(few)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert segmenter.batch.size < 2048
    assert len(labels) == 300
    # Kernels differ with the batch, and with them rounding: the last batch is smaller than the others.
    assert min((one.label == labels[0].label).mean() for one in labels) > 0.999
