from __future__ import annotations

import numpy as np
import pytest

from ddpm_seg.evaluation.scores.miou import class_ious, confusion_matrix, published_miou


def reference_miou(
    predictions: list[np.ndarray], targets: list[np.ndarray], classes: int, ignored: int | None
) -> float:
    """The published formula, class by class and image by image."""
    scores = []
    for class_id in range(classes):
        if class_id == ignored:
            continue
        pairs = [(p == class_id, t == class_id) for p, t in zip(predictions, targets, strict=True)]
        union = sum(int((p | t).sum()) for p, t in pairs)
        scores.append(sum(int((p & t).sum()) for p, t in pairs) / (1e-8 + union))
    return float(np.mean(scores))


@pytest.mark.parametrize("ignored", [None, 255, 0])
@pytest.mark.parametrize("seed", range(4))
def test_equals_the_published_formula_with_absent_and_ignored_classes(ignored: int | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    # Class 5 is nowhere, class 4 is never predicted, and a fifth of the target is ignored.
    predictions = [rng.integers(0, 4, (9, 7)).astype(np.uint8) for _ in range(3)]
    targets = [rng.integers(0, 5, (9, 7)).astype(np.uint8) for _ in range(3)]
    for target in targets:
        target[rng.random(target.shape) < 0.2] = 255 if ignored is None else ignored
    total = sum(confusion_matrix(p, t, 6) for p, t in zip(predictions, targets, strict=True))
    assert isinstance(total, np.ndarray)
    assert published_miou(total, ignored) == pytest.approx(reference_miou(predictions, targets, 6, ignored), abs=1e-12)
    assert class_ious(total)[5] == 0


def test_every_pixel_is_counted_once() -> None:
    target = np.array([[0, 1], [255, 1]], dtype=np.uint8)
    predicted = np.array([[0, 0], [1, 1]], dtype=np.uint8)
    confusion = confusion_matrix(predicted, target, 2)
    np.testing.assert_array_equal(confusion, [[1, 0, 0], [1, 1, 0], [0, 1, 0]])
    # The ignored pixel, named 1, is in that class's union.
    np.testing.assert_allclose(class_ious(confusion), [1 / 2, 1 / 3])


def test_a_perfect_prediction_scores_one_and_shapes_must_agree() -> None:
    target = np.arange(12).reshape(3, 4) % 3
    assert published_miou(confusion_matrix(target, target, 3), None) == pytest.approx(1)
    with pytest.raises(ValueError, match=r"\(4, 3\) and target \(3, 4\)"):
        confusion_matrix(target.T, target, 3)
