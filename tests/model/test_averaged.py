"""Averages over several views of an image."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ddpm_seg.fits import Average
from ddpm_seg.model.averaged import Averaged
from ddpm_seg.model.bundle.calibration import Calibration
from ddpm_seg.model.segment_canvas import segment_canvases
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.model.trained import resident
from ddpm_seg.model.views import finer, passes, views_of
from ddpm_seg.model.voting import Votes, vote
from ddpm_seg.tasks import Task
from tests.tiny_bundle import TASK, tiny_bundle

SIDE = 8
SIDES = Task(
    name="sides",
    class_names=("sky", "left", "right"),
    palette=((0, 0, 0), (1, 1, 1), (2, 2, 2)),
    mirror_pairs=(("left", "right"),),
)


class OfEachPixel:
    """A stand-in model whose members' logits at a pixel are its colours, times each member's factor."""

    image_size, task, device = SIDE, SIDES, torch.device("cpu")

    def __init__(self, *factors: float) -> None:
        self.factors = factors

    def votes(self, images: np.ndarray):
        for image in images:
            logits = torch.tensor(image / np.float32(64)).flatten(0, 1)
            yield vote((logits * factor for factor in self.factors), SIDE)

    def calibrated(self, votes: Votes) -> Votes:
        return votes


class OfSides(OfEachPixel):
    """Calls what lies in the left half of an image left, whatever it is; the rest right."""

    def votes(self, images: np.ndarray):
        p = torch.zeros(3, SIDE, SIDE)
        p[1, :, : SIDE // 2], p[2, :, SIDE // 2 :] = 1, 1
        for _ in images:
            zero = torch.zeros(SIDE, SIDE)
            yield Votes(label=p.argmax(dim=0).byte(), uncertainty=zero, confidence=zero + 1, probabilities=p)


def pictures(number: int, side: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (number, side, side, 3), dtype=np.uint8)


def test_a_network_that_sees_each_pixel_alone_gains_nothing_from_a_mirror() -> None:
    model = OfEachPixel(1, 3)
    model.task = dataclasses.replace(SIDES, mirror_pairs=())  # its classes are colours, which a mirror leaves alone
    averaged = Averaged(model, "mirror")
    for found, votes in zip(averaged.segment(pictures(3, SIDE)), model.votes(pictures(3, SIDE)), strict=True):
        np.testing.assert_array_equal(found.label, votes.probabilities.argmax(dim=0))
        np.testing.assert_allclose(found.uncertainty, votes.uncertainty, atol=1e-6)
        np.testing.assert_allclose(found.confidence, votes.probabilities.max(dim=0).values, atol=1e-6)


def test_left_in_the_mirror_is_right() -> None:
    (found,) = Averaged(OfSides(), "mirror").segment(pictures(1, SIDE))
    assert (found.label[:, : SIDE // 2] == 1).all()
    assert (found.label[:, SIDE // 2 :] == 2).all()
    assert (found.confidence == 1).all()  # with unpaired classes it would be 1/2


@pytest.mark.parametrize("average", ["mirror", "shifts"])
def test_a_constant_image_stays_as_it_is(average: Average) -> None:
    grey = np.full((1, finer(average) * SIDE, finer(average) * SIDE, 3), (10, 200, 200), np.uint8)
    (found,) = Averaged(OfEachPixel(1, 2), average).segment(grey)
    (alone,) = OfEachPixel(1, 2).votes(grey[:, :SIDE, :SIDE])
    for name in ("uncertainty", "confidence"):
        np.testing.assert_allclose(getattr(found, name), getattr(alone, name), atol=1e-5)
    assert found.top_ids is not None
    assert found.top_ids.shape[1:] == (finer(average) * SIDE,) * 2
    assert np.unique(found.top_probabilities[0]).size == 1


def test_uncertainty_is_that_of_all_members_in_all_views() -> None:
    image = pictures(1, SIDE)
    averaged = Averaged(OfEachPixel(1, 3), "mirror")
    (found,) = averaged.segment(image)
    logits = torch.tensor(image[0] / np.float32(64)).flatten(0, 1)
    members = [logits * factor for factor in (1, 3)]
    swapped = [one[:, averaged.swapped] for one in members]  # of the mirror image, back in its place
    expected = vote([*members, *swapped], SIDE)
    np.testing.assert_allclose(found.uncertainty, expected.uncertainty, atol=1e-5)
    # Left and right are equally probable everywhere.
    np.testing.assert_allclose(found.confidence, expected.probabilities.max(dim=0).values, atol=1e-5)


def test_shifted_views_say_where_things_are() -> None:
    """The mean over views of a slope is that slope, on the finer grid: nothing has moved."""
    columns = np.linspace(0, 120, 2 * SIDE)
    image = np.zeros((1, 2 * SIDE, 2 * SIDE, 3), np.uint8)
    image[0, ..., 1] = columns.round()

    class Linear(OfEachPixel):
        def votes(self, images: np.ndarray):
            for one in images:
                p = torch.tensor(one[..., 1] / np.float32(255))
                both = torch.stack([1 - p, p, torch.zeros_like(p)])
                yield Votes(label=both.argmax(dim=0).byte(), uncertainty=0 * p, confidence=p, probabilities=both)

    inside = slice(3, -3)  # edges are repeated
    for direction in (image, image.swapaxes(1, 2)):
        found = Averaged(Linear(), "shifts").probabilities(direction[0])[1]
        expected = direction[0, ..., 1] / 255
        np.testing.assert_allclose(found[inside, inside], expected[inside, inside], atol=0.006)


@pytest.mark.parametrize("average", ["mirror", "shifts"])
def test_a_real_model_is_averaged_over_its_own_answers(average: Average) -> None:
    bundle = tiny_bundle()
    one, both = resident(bundle), resident(bundle, average=average)
    canvas = pictures(1, 16 * finer(average))[0]
    answers = np.stack([one.probabilities(np.ascontiguousarray(view)) for view in views_of(canvas, average)])
    assert len(answers) == passes(average)
    if average == "mirror":
        answers[1] = answers[1][..., ::-1]
        np.testing.assert_allclose(both.probabilities(canvas), answers.mean(axis=0), atol=1e-5)
    (found,) = both.segment(canvas[None])
    means = both.probabilities(canvas)
    small = means.reshape(len(means), 16, finer(average), 16, finer(average)).mean(axis=(2, 4))
    np.testing.assert_array_equal(found.label, small.argmax(axis=0))
    np.testing.assert_array_equal(found.top_ids[0], means.argmax(axis=0))


def test_calibration_changes_the_mean_not_its_classes() -> None:
    calibration = Calibration(temperatures=(2.0,) * TASK.num_classes, images=1)
    bundle = tiny_bundle()
    canvas = pictures(1, 32)
    (raw,), (calibrated,) = (
        Averaged(Segmenter(one), "shifts").segment(canvas)
        for one in (bundle, dataclasses.replace(bundle, calibration=calibration))
    )
    np.testing.assert_array_equal(raw.label, calibrated.label)
    np.testing.assert_array_equal(raw.uncertainty, calibrated.uncertainty)
    assert calibrated.confidence.mean() < raw.confidence.mean()
    assert calibrated.top_probabilities[0].mean() < raw.top_probabilities[0].mean()


def test_canvases_of_several_squares_are_stitched_on_both_grids() -> None:
    model = Averaged(OfEachPixel(1), "shifts")
    canvas = pictures(1, 6 * SIDE)[0][: 2 * SIDE, : 4 * SIDE]
    (found,) = segment_canvases(model, [canvas])
    left, right = model.segment(np.stack([canvas[:, : 2 * SIDE], canvas[:, 2 * SIDE :]]))
    np.testing.assert_array_equal(found.label, np.concatenate([left.label, right.label], axis=1))
    np.testing.assert_array_equal(found.top_ids, np.concatenate([left.top_ids, right.top_ids], axis=2))


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"images must be \(N, 16, 16, 3\) uint8"):
        Averaged(OfEachPixel(1), "shifts").segment(pictures(1, SIDE))
