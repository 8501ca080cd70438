"""Every training stops at the first loss that is not finite, and keeps what was saved before."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm_seg.cluster.training_workers import Worker
from ddpm_seg.errors import TrainingDiverged
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.networks.mae import MAEConfig
from ddpm_seg.model.networks.student import StudentConfig
from ddpm_seg.tasks import UNLABELLED
from ddpm_seg.training.divergence import Watch
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig, train_members
from ddpm_seg.training.ensemble.pixel_features import PixelFeatures
from ddpm_seg.training.network.denoising import Denoising
from ddpm_seg.training.network.inpainting import Inpainting
from ddpm_seg.training.network.network_training import NetworkTraining, Objective, train_network
from ddpm_seg.training.optimization import Optimization, StudentOptimization
from ddpm_seg.training.rivals.supervised import SupervisedConfig, train_supervised
from ddpm_seg.training.student.sample_stream import Batch
from ddpm_seg.training.student.student_training import StudentTraining
from tests.model.tiny_networks import images
from tests.tiny_bundle import TASK, tiny_bundle

UNET = UNetConfig(image_size=16, num_channels=32, num_res_blocks=1, channel_mult=(1, 1), attention_resolutions=(8,))
STUDENT = StudentConfig(backbone="mobilenet_v3_large", num_classes=TASK.num_classes, image_size=16, resolution=32)


@pytest.mark.parametrize(
    "objective",
    [
        Denoising(UNET, DiffusionConfig(steps=50)),
        Inpainting(MAEConfig(image_size=16, patch_size=4, width=24, depth=3, num_heads=2)),
    ],
    ids=["ddpm", "mae"],
)
def test_a_network_that_diverges_stops_with_weights_that_are_still_good(objective: Objective, tmp_path: Path) -> None:
    state = str(tmp_path / "state.pt")

    def training(learning_rate: float) -> NetworkTraining:
        options = Optimization(iterations=30, batch_size=4, learning_rate=learning_rate)
        return NetworkTraining(objective, options, Worker())

    bad = training(1e30)
    with pytest.raises(
        TrainingDiverged, match=r"of the network is not a finite .*; try a lower --learning-rate or --prec"
    ):
        train_network(bad, images(4, 16), state, lambda _: None)
    assert 0 < bad.iteration < 30
    assert all(value.isfinite().all() for value in bad.network.state_dict().values())  # stopped before that step


def test_members_stop_and_save_nothing(tmp_path: Path) -> None:
    features = PixelFeatures(num_images=1, image_size=8, mode="bilinear", dtype=torch.float32)
    features.store(0, [torch.full((1, 4, 8, 8), torch.nan)])
    labels = torch.zeros(64, dtype=torch.int64)
    config = EnsembleConfig(members=2, batch_size=16, iterations=20, standardize=False)
    with pytest.raises(TrainingDiverged, match=r"of the members .* at step 1: "):
        train_members(features, torch.arange(64), labels, 3, config, state_uri=str(tmp_path / "members.pt"))
    assert not (tmp_path / "members.pt").exists()


def test_a_student_stops_within_the_epoch() -> None:
    with pytest.raises(TrainingDiverged, match=r"of the student .* try a lower --learning-rate"):
        _student(1e30).train_epoch(_batches(TASK.num_classes), lambda _: None)


def test_a_batch_without_a_labelled_pixel_is_no_divergence() -> None:
    """Its loss is 0 / 0, and its gradient is zero."""
    batches = _batches(TASK.num_classes)
    batches[1] = (batches[1][0], np.full_like(batches[1][1], UNLABELLED))
    loss = _student(1e-3).train_epoch(batches, lambda _: None)
    assert np.isfinite(loss)


def test_a_supervised_network_stops() -> None:
    labels = np.zeros((4, 16, 16), np.uint8)
    config = SupervisedConfig(width=8, levels=2, iterations=60, batch_size=2, learning_rate=1e30)
    with pytest.raises(TrainingDiverged, match=r"of the supervised network"):
        train_supervised(images(4, 16), labels, TASK, config)


def test_a_gpus_losses_are_looked_at_now_and_then_and_before_a_state_is_saved() -> None:
    watch = Watch("it", "again")
    watch.see(torch.tensor(1.0))
    watch.see(torch.zeros((), device="meta"))  # what is not of the CPU is not read at once
    watch = Watch("it", "again")
    watch._waiting = torch.tensor(1.0) + torch.inf
    with pytest.raises(TrainingDiverged):
        watch.look()
    watch.look()


def test_a_bundle_of_weights_that_are_not_finite_is_not_written(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    bundle.weights["time_embed.0.bias"][3] = torch.inf
    with pytest.raises(BundleError, match=r"unet\.safetensors: time_embed\.0\.bias has values that are not finite"):
        save_bundle(bundle, str(tmp_path / "model"))
    assert not (tmp_path / "model").exists()


def _student(learning_rate: float) -> StudentTraining:
    options = StudentOptimization(batch_size=2, learning_rate=learning_rate)
    return StudentTraining(STUDENT, options, Worker(), task=TASK, settings={})


def _batches(classes: int) -> list[Batch]:
    rng = np.random.default_rng(0)
    return [(images(2, 16), rng.integers(classes, size=(2, 16, 16), dtype=np.uint8)) for _ in range(4)]
