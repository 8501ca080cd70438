from __future__ import annotations

import numpy as np
import pytest
import torch

from ddpm_seg.cluster.training_workers import Worker
from ddpm_seg.model.networks.student import StudentConfig
from ddpm_seg.training.optimization import StudentOptimization
from ddpm_seg.training.student.annotated_set import AnnotatedSet
from ddpm_seg.training.student.student_training import StudentTraining
from tests.tiny_bundle import TASK

CONFIG = StudentConfig(backbone="mobilenet_v3_large", num_classes=3, image_size=16, resolution=32)


def training(**options) -> StudentTraining:
    return StudentTraining(
        CONFIG, StudentOptimization(batch_size=4, **options), Worker(), task=TASK, settings={"samples": "here"}
    )


def train(student: StudentTraining) -> float:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (8, 16, 16), dtype=np.uint8)
    images = np.repeat(labels[..., None] * np.uint8(100), 3, axis=3)
    batches = AnnotatedSet(images, labels, 1).batches(student.options.seed, len(student.epochs), 4, 0, 1)
    loss = student.train_epoch(batches, lambda _: None)
    student.finish_epoch(loss, None)
    return loss


@pytest.mark.parametrize("augment", [False, True])
def test_an_interrupted_training_goes_on_to_the_same_weights(tmp_path, augment: bool) -> None:
    whole = training(augment=augment)
    losses = [train(whole) for _ in range(2)]
    first, second = training(augment=augment), training(augment=augment)
    assert train(first) == losses[0]
    first.save(str(tmp_path / "state.pt"))
    second.resume(str(tmp_path / "state.pt"))
    assert train(second) == losses[1]
    assert second.epochs == whole.epochs
    for key, value in whole.student.state_dict().items():
        assert torch.equal(second.student.state_dict()[key], value), key
        assert torch.equal(second.best[key], whole.best[key]), key


def test_the_best_epoch_is_kept() -> None:
    student = training()
    weight = student.student.classifier[-1].bias
    for number, miou in enumerate([0.2, 0.5, 0.5, 0.3]):
        with torch.no_grad():
            weight.fill_(number)
        student.finish_epoch(1.0, miou)
    assert student.best["classifier.4.bias"].tolist() == [1.0] * 3
    assert [epoch["miou"] for epoch in student.epochs] == [0.2, 0.5, 0.5, 0.3]


def test_pixels_without_a_class_are_not_learnt_from() -> None:
    images = np.random.default_rng(0).integers(0, 255, (4, 16, 16, 3), dtype=np.uint8)
    labels = np.random.default_rng(1).integers(0, 3, (4, 16, 16), dtype=np.uint8)
    unlike = labels.copy()
    labels[:, :8], unlike[:, :8] = 255, 255
    unlike[:, 8:] = (unlike[:, 8:] + 1) % 3
    losses = []
    for masks in (labels, unlike):
        losses.append(training().train_epoch([(images, masks)], lambda _: None))
    everything_unknown = training().train_epoch([(images, np.full_like(labels, 255))], lambda _: None)
    assert losses[0] != losses[1]
    assert np.isnan(everything_unknown)  # the mean over no pixel at all


def test_a_state_of_other_settings_is_refused_but_more_epochs_are_not(tmp_path) -> None:
    uri = str(tmp_path / "state.pt")
    training().save(uri)
    training(epochs=30).resume(uri)
    with pytest.raises(ValueError, match=r"has learning_rate = 0\.001, not 0\.1"):
        training(learning_rate=0.1).resume(uri)
    with pytest.raises(ValueError, match="has samples = here, not there"):
        StudentTraining(
            CONFIG, StudentOptimization(batch_size=4), Worker(), task=TASK, settings={"samples": "there"}
        ).resume(uri)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"learning_rate": 0}, {"batch_size": 1}])
def test_impossible_options_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).replace("_", "[-_]")):
        StudentOptimization(**wrong)
