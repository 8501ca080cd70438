from __future__ import annotations

import numpy as np
import pytest

from ddpm_seg.evaluation.scores.metrics import metrics, usual_ious
from ddpm_seg.evaluation.scores.miou import confusion_matrix, published_miou
from ddpm_seg.tasks import Task

NAMES = ("a", "b", "c", "d", "nowhere")


def task(ignore_label: int | None) -> Task:
    palette = tuple((index, 0, 0) for index in range(5))
    return Task(name="t", class_names=NAMES, palette=palette, ignore_label=ignore_label)


def usual_reference(predicted: np.ndarray, target: np.ndarray, ignored: int | None) -> list[float]:
    """Class by class over the pixels that count; classes that are nowhere among them are left out."""
    counts = (target < 5) & (target != (-1 if ignored is None else ignored))
    ious = []
    for class_id in range(5):
        here, there = (predicted == class_id) & counts, (target == class_id) & counts
        if class_id != ignored and (here | there).any():
            ious.append((here & there).sum() / (here | there).sum())
    return ious


@pytest.mark.parametrize("ignored", [None, 255, 0])
@pytest.mark.parametrize("seed", range(4))
def test_usual_mean_iou_masks_ignored_pixels_and_absent_classes(ignored: int | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, target = rng.integers(0, 4, (2, 9, 7)).astype(np.uint8)
    target[rng.random(target.shape) < 0.2] = 255
    confusion = confusion_matrix(predicted, target, 5)
    found = metrics(confusion, task(ignored))
    assert next(iter(found)) == "miou"
    assert found["miou"] == published_miou(confusion, ignored)
    expected = usual_reference(predicted, target, ignored)
    assert found["usual_miou"] == pytest.approx(np.mean(expected))
    ious = usual_ious(confusion, ignored)
    np.testing.assert_allclose(ious[~np.isnan(ious)], expected)
    counts = (target < 5) & (target != (-1 if ignored is None else ignored))
    assert found["pixels"] == counts.sum()
    assert found["pixel_accuracy"] == pytest.approx((predicted == target)[counts].mean())
    absent = found["classes"][4]
    assert (absent["iou"], absent["usual_iou"], absent["recall"], absent["pixels"]) == (0, None, None, 0)
    for class_id in range(4):
        if class_id != ignored:
            named, there = (predicted == class_id)[counts], (target == class_id)[counts]
            assert found["classes"][class_id]["precision"] == pytest.approx(there[named].mean())
            assert found["classes"][class_id]["recall"] == pytest.approx(named[there].mean())


def test_nothing_to_score_is_none_and_not_a_number() -> None:
    nothing = metrics(np.zeros((6, 6), np.int64), task(None))
    assert (nothing["miou"], nothing["usual_miou"], nothing["pixel_accuracy"]) == (0, None, None)
