from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ddpm_seg.model.networks.plain_unet import PlainUNet
from ddpm_seg.tasks import TASKS
from ddpm_seg.training.rivals import supervised
from ddpm_seg.training.rivals.supervised import SupervisedConfig, dice_loss, label_images, train_supervised

TASK = TASKS["avatars_10"]
SHORT = SupervisedConfig(width=8, levels=3, iterations=150, batch_size=8)


def boxes(count: int, *, first: int = 0, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Dark pictures (background) with a bright box (skin) somewhere."""
    rng = np.random.default_rng(first)
    labels = np.zeros((count, size, size), dtype=np.uint8)
    for label in labels:
        top, left = rng.integers(1, 7, 2)
        label[top : top + 8, left : left + 8] = 1
    images = np.where(labels[..., None] == 1, 200, 40) + rng.integers(-20, 20, (count, size, size, 3))
    return images.astype(np.uint8), labels


def weights(network: PlainUNet) -> list[torch.Tensor]:
    return list(network.state_dict().values())


def test_learns_what_it_is_shown_and_labels_others_of_the_kind() -> None:
    network = train_supervised(*boxes(4), TASK, SHORT)
    images, labels = boxes(6, first=1)
    predicted = label_images(network, images)
    assert predicted.dtype == np.uint8
    assert (predicted == labels).mean() > 0.95
    alone = np.concatenate([label_images(network, image[None]) for image in images])
    assert (alone == predicted).mean() > 0.999  # rounding apart, an image's answer is its own


def test_a_seed_repeats() -> None:
    few = dataclasses.replace(SHORT, iterations=4)
    once, again = (train_supervised(*boxes(2), TASK, few) for _ in range(2))
    other = train_supervised(*boxes(2), TASK, dataclasses.replace(few, seed=1))
    assert all(torch.equal(a, b) for a, b in zip(weights(once), weights(again), strict=True))
    assert not torch.equal(weights(once)[0], weights(other)[0])


@pytest.mark.parametrize(("instructions", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_only_where_the_processor_has_instructions_for_it(
    instructions: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype] = []
    convolve = torch.nn.Conv2d.forward
    monkeypatch.setattr(supervised, "has_bfloat16", lambda device: instructions)
    monkeypatch.setattr(
        torch.nn.Conv2d, "forward", lambda self, x: [found := convolve(self, x), seen.append(found.dtype)][0]
    )
    train_supervised(*boxes(2), TASK, dataclasses.replace(SHORT, iterations=1))
    assert set(seen) == {dtype}


def test_ignored_and_unlabelled_pixels_teach_nothing() -> None:
    few = dataclasses.replace(SHORT, iterations=4)
    images, labels = boxes(2)
    task = dataclasses.replace(TASK, ignore_label=9)
    unlabelled = np.where(labels == 1, np.uint8(255), labels)
    ignored = np.where(labels == 1, np.uint8(9), labels)
    once, again = train_supervised(images, unlabelled, task, few), train_supervised(images, ignored, task, few)
    assert all(torch.equal(a, b) for a, b in zip(weights(once), weights(again), strict=True))
    assert torch.isfinite(torch.stack([value.float().sum() for value in weights(once)])).all()


def test_the_default_network_is_small_and_keeps_the_picture_s_size() -> None:
    config = SupervisedConfig()
    network = PlainUNet(TASK.num_classes, width=config.width, levels=config.levels)
    assert 1e6 < sum(value.numel() for value in network.parameters()) < 2.5e6
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 10, 64, 64)


def test_dice_loss_weighs_classes_alike_and_leaves_unlabelled_pixels_out() -> None:
    target = torch.zeros(2, 8, 8, dtype=torch.uint8)
    target[0, 2:4, 2:4] = 1
    sure = 30 * torch.nn.functional.one_hot(target.long(), 2).permute(0, 3, 1, 2).float()
    assert dice_loss(sure, target) < 1e-3
    without_the_small = torch.tensor([30.0, 0.0]).view(1, 2, 1, 1).expand_as(sure)
    assert dice_loss(without_the_small, target) > 0.35  # all of the small class, a thirtieth of the pixels
    target[0, 2:4, 2:4] = 255
    assert dice_loss(sure, target) == dice_loss(-sure.flip(1), target)
