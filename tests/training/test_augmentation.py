from __future__ import annotations

import dataclasses

import pytest
import torch

from ddpm_seg.tasks import UNLABELLED, Task
from ddpm_seg.training.augmentation import Augmentation, augment
from tests.tiny_bundle import TASK

NONE = Augmentation(**{field.name: 0.0 for field in dataclasses.fields(Augmentation)})
MOVES = dataclasses.replace(NONE, rotation=20, scale=0.3, shift=0.2)
COLOURS = dataclasses.replace(NONE, brightness=0.2, contrast=0.3, saturation=0.8, hue=90)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def boxes(n: int = 12, size: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures whose red channel tells the class of every pixel: 0 is -1, 1 is 0, 255 is 1."""
    labels = torch.zeros(n, size, size, dtype=torch.uint8)
    labels[:, 4:14, 6:12] = 1
    labels[:, 16:22, 3:20] = 255
    images = torch.full((n, 3, size, size), 0.5)
    images[:, 0] = torch.where(labels == 255, 1.0, labels.float() - 1)
    return images, labels


def test_image_and_mask_move_together() -> None:
    images, labels = boxes()
    moved, moved_labels = augment(images, labels, TASK, MOVES, seeded())
    assert moved_labels.dtype == torch.uint8
    assert set(moved_labels.unique().tolist()) == {0, 1, 255}
    assert all(not torch.equal(before, after) for before, after in zip(labels, moved_labels, strict=True))
    told = torch.where(moved_labels == 255, 1.0, moved_labels.float() - 1)
    # Between two classes the picture is mixed and the mask is not.
    assert ((moved[:, 0] - told).abs() < 1e-3).float().mean() > 0.7
    torch.testing.assert_close(moved[:, 1], torch.full_like(moved[:, 1], 0.5))


def test_without_changes_half_are_flipped_and_the_others_left_alone() -> None:
    images, labels = boxes(40)
    same, same_labels = augment(images, labels, TASK, NONE, seeded())
    kept = [torch.equal(label, labels[0]) for label in same_labels]
    assert 10 < sum(kept) < 30
    for index, is_kept in enumerate(kept):
        assert torch.equal(same_labels[index], labels[0] if is_kept else labels[0].flip(1))
        torch.testing.assert_close(same[index], images[0] if is_kept else images[0].flip(2), atol=1e-4, rtol=0)


def test_a_mirrored_image_swaps_the_classes_that_are_pairs() -> None:
    grey = (128, 128, 128)
    sides = Task(
        name="sides", class_names=("no", "left", "right"), palette=(grey,) * 3, mirror_pairs=(("left", "right"),)
    )
    images, labels = boxes(40)
    found, plain = (augment(images, labels, task, NONE, seeded())[1] for task in (sides, TASK))
    for own, without in zip(found, plain, strict=True):
        mirrored = not torch.equal(without, labels[0])
        assert torch.equal(own == 2, (without == 1) & mirrored)
        assert torch.equal(own == 1, (without == 1) & (not mirrored))
        assert torch.equal(own == UNLABELLED, without == UNLABELLED)


def test_colours_change_in_the_image_alone_and_grey_has_no_hue() -> None:
    images, labels = boxes()
    changed, unchanged = augment(images, labels, TASK, COLOURS, seeded())
    assert torch.equal(unchanged, augment(images, labels, TASK, NONE, seeded())[1])
    assert changed.min() >= -1
    assert changed.max() <= 1
    assert (changed - augment(images, labels, TASK, NONE, seeded())[0]).abs().mean() > 0.1
    grey, _ = augment(torch.full((12, 3, 8, 8), -0.2), labels[:, :8, :8], TASK, COLOURS, seeded())
    torch.testing.assert_close(grey, grey.mean(dim=1, keepdim=True).expand_as(grey), atol=1e-3, rtol=0)
    assert len(grey[:, 0, 0, 0].unique()) == 12


@pytest.mark.parametrize("options", [MOVES, COLOURS])
def test_a_generator_repeats(options: Augmentation) -> None:
    images, labels = boxes()
    once, again = augment(images, labels, TASK, options, seeded()), augment(images, labels, TASK, options, seeded())
    assert torch.equal(once[0], again[0])
    assert torch.equal(once[1], again[1])
