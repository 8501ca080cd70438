"""Temperatures fitted on annotated images make an ensemble's confidence what it is worth."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import pytest

from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.load import Annotation, OwnSize
from ddpm_seg.data.canvas import fit
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.model.bundle.ensemble_bundle import Bundle
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.model.views import finer
from ddpm_seg.training.ensemble.as_labelled import as_seen, labelling, tuned_average
from ddpm_seg.training.ensemble.calibrating import annotated_pixels, calibrate
from tests.tiny_bundle import TASK, tiny_bundle

SIZE = 16


def averaging(average: Literal["mirror", "shifts"] | None) -> Bundle:
    """The tiny model, as if tuning had chosen this."""
    bundle = tiny_bundle()
    assert bundle.features is not None
    return replace(bundle, features=replace(bundle.features, average=average))


def annotations(number: int, share: float, bundle: Bundle | None = None) -> list[Annotation]:
    """Images that are annotated as the tiny model says, in this share of their pixels."""
    bundle = bundle or tiny_bundle()
    draw, model, found = np.random.default_rng(0), labelling(Segmenter(bundle), bundle), []
    times = finer(tuned_average(bundle))
    for index in range(number):
        image = draw.integers(0, 256, (times * SIZE, times * SIZE, 3), dtype=np.uint8)
        canvas, placement = fit(image, SIZE)
        said = next(model.votes(fit(image, SIZE, finer=times)[0][None])).probabilities.numpy().argmax(axis=0)
        other = (said + 1) % TASK.num_classes
        label = np.where(draw.random(said.shape) < share, said, other).astype(np.uint8)
        own = OwnSize(mask=b"", read_image=partial(encode_png, image))
        found.append(Annotation(uri=str(index), image=canvas, label=label, placement=placement, own=own))
    return found


@pytest.mark.parametrize("average", [None, "mirror", "shifts"])
def test_confidence_becomes_the_share_that_is_right(average: Literal["mirror", "shifts"] | None) -> None:
    """Of the answers that labelling gives: averaged over views, where tuning chose that."""
    bundle = averaging(average)
    for share in (0.5, 0.9):
        shown = annotations(20, share, bundle)
        calibrated = replace(bundle, calibration=calibrate(bundle, shown))
        model = labelling(Segmenter(calibrated), calibrated)
        votes = [model.calibrated(next(model.votes(one.image[None]))) for one in as_seen(shown, calibrated)]
        confidence = [one.probabilities.numpy().max(axis=0).mean() for one in votes]
        assert np.mean(confidence) == pytest.approx(share, abs=0.02)


def test_its_own_calibration_is_not_fitted_on_top() -> None:
    bundle, shown = tiny_bundle(), annotations(5, 0.7)
    once = calibrate(bundle, shown)
    assert calibrate(replace(bundle, calibration=once), shown) == once
    assert once.images == 5


def test_only_pixels_whose_class_counts_are_fitted_on() -> None:
    (one,) = annotations(1, 0.7)
    label = one.label.copy()
    label[:8], label[8] = 255, 2
    p_KSS = np.random.default_rng(0).random((TASK.num_classes, SIZE, SIZE))
    p_PK, target_P = annotated_pixels(p_KSS, replace(one, label=label), replace(TASK, ignore_label=2), seed=0)
    kept = (label != 255) & (label != 2)
    np.testing.assert_array_equal(target_P, label[kept])
    np.testing.assert_array_equal(p_PK, p_KSS.transpose(1, 2, 0)[kept])
    with pytest.raises(AnnotationError, match="class that is not ignored"):
        calibrate(tiny_bundle(), [replace(one, label=np.full_like(label, 255))])
