"""Large canvases, cut into overlapping squares and blended."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ddpm_seg.model.averaged import Averaged
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.model.tiles import OVERLAP, segment_tiles, starts, weights
from ddpm_seg.model.voting import Votes
from tests.memory import peak_memory
from tests.tiny_bundle import TASK, tiny_bundle

SIDE = 8


class OfEachPixel:
    """A stand-in network whose answer for a pixel depends on that pixel alone: its colours, as probabilities."""

    image_size, task, device = SIDE, SimpleNamespace(class_names="abc"), torch.device("cpu")

    def votes(self, images: np.ndarray):
        assert images.shape[1:] == (SIDE, SIDE, 3)
        for image in images:
            p = torch.tensor(image.astype(np.float32)).permute(2, 0, 1) + 1
            yield self._vote(p / p.sum(dim=0))

    def _vote(self, p: torch.Tensor) -> Votes:
        return Votes(
            label=p.argmax(dim=0).byte(),
            uncertainty=torch.special.entr(p).sum(dim=0),  # as of a student
            confidence=p.max(dim=0).values,
            probabilities=p,
        )

    def calibrated(self, votes: Votes) -> Votes:
        return votes


class OfItsPlace(OfEachPixel):
    """Each pixel's probability depends only on where it lies in the square, as an object's does."""

    def votes(self, images: np.ndarray):
        ramp = torch.linspace(0.2, 0.8, SIDE).expand(SIDE, SIDE)
        for _ in images:
            yield self._vote(torch.stack([ramp, 1 - ramp, torch.zeros(SIDE, SIDE)]))


def canvas(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(("height", "width"), [(8, 9), (20, 31), (64, 8), (23, 12)])
def test_a_network_of_known_output_gives_it_everywhere(height: int, width: int) -> None:
    pixels = canvas(height, width)
    (found,) = segment_tiles(OfEachPixel(), [pixels])
    p = (pixels.astype(np.float64) + 1) / (pixels.astype(np.float64) + 1).sum(axis=2, keepdims=True)
    sure = np.sort(p, axis=2)[..., 2] - np.sort(p, axis=2)[..., 1] > 1e-5
    np.testing.assert_array_equal(found.label[sure], p.argmax(axis=2)[sure])
    np.testing.assert_allclose(found.confidence, p.max(axis=2), atol=1e-3)
    np.testing.assert_allclose(found.uncertainty, -(p * np.log(p)).sum(axis=2), atol=2e-3)
    assert found.top_probabilities is not None
    np.testing.assert_allclose(found.top_probabilities.sum(axis=0), 255, atol=2)


def test_a_constant_stays_constant() -> None:
    grey = np.full((29, 37, 3), (200, 30, 20), np.uint8)
    (found,) = segment_tiles(OfEachPixel(), [grey])
    assert np.unique(found.label).tolist() == [0]
    assert np.ptp(found.confidence.astype(np.float32)) < 1e-3


def test_there_is_no_seam() -> None:
    """Where neighbouring squares contradict each other, the blend goes over from one to the other step by step."""
    (found,) = segment_tiles(OfItsPlace(), [canvas(SIDE, 6 * SIDE)])
    p = np.where(found.label == 0, found.confidence, 1 - found.confidence)[0].astype(np.float32)
    assert np.abs(np.diff(p)).max() < 0.12  # side by side, the squares would differ by 0.6 at their edges


def test_a_shifted_image_has_shifted_labels() -> None:
    pixels = canvas(24, 40)
    (whole,), (part,) = (segment_tiles(OfEachPixel(), [one]) for one in (pixels, pixels[5:, 3:]))
    agree = whole.label[5:, 3:] == part.label
    assert agree.mean() > 0.999  # but for ties by rounding


def test_one_square_is_segmented_as_ever() -> None:
    segmenter = Segmenter(tiny_bundle())
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    (found,), (expected,) = segment_tiles(segmenter, [pixels]), segmenter.segment(pixels[None])
    for name in ("label", "uncertainty", "confidence", "top_ids"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("average", [False, True])
def test_a_real_model(average: bool) -> None:
    model = Averaged(Segmenter(tiny_bundle()), "mirror") if average else Segmenter(tiny_bundle())
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)
    (found,) = segment_tiles(model, [pixels])
    tops = [model.probabilities(pixels[start : start + 16]) for start in starts(24, 16)]
    expected = np.zeros((TASK.num_classes, 24, 16))
    for start, one, weight in zip(starts(24, 16), tops, weights(starts(24, 16), 16), strict=True):
        expected[:, start : start + 16] += weight[:, None] * one
    np.testing.assert_allclose(found.confidence, expected.max(axis=0), atol=1e-3)


@pytest.mark.parametrize("length", [8, 9, 12, 13, 100, 1001])
def test_squares_cover_everything_and_overlap(length: int) -> None:
    found = starts(length, SIDE)
    assert (found[0], found[-1]) == (0, length - SIDE)
    assert all(0 < gap <= SIDE * (1 - OVERLAP) for gap in np.diff(found))
    total = np.zeros(length)
    for begin, weight in zip(found, weights(found, SIDE), strict=True):
        total[begin : begin + SIDE] += weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_a_canvas_smaller_than_the_network_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 x 8 pixels"):
        segment_tiles(OfEachPixel(), [canvas(7, 20)])


@pytest.mark.slow
def test_100_megapixels_fit_into_2_gb() -> None:
    code = "import tests.model.test_tiles as t; print(t.peak_of_10_000_squared())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1.8e9  # 1.58


def peak_of_10_000_squared() -> int:
    """Bytes at most while an image of 10,000 x 10,000 pixels becomes a mask in this process, through the stand-in."""
    from ddpm_seg.data.canvas import fit, tile_canvas
    from ddpm_seg.data.image_labels import image_labels

    OfEachPixel.image_size = globals()["SIDE"] = 256
    image = np.zeros((10_000, 10_000, 3), np.uint8)
    image[::2, :, 1], image[:, ::3, 2] = 90, 200
    pixels, placement = fit(image, tile_canvas(image, 256, 1.0))
    (found,) = segment_tiles(OfEachPixel(), [pixels], top=False)
    del image, pixels
    labels = image_labels(found, placement, ("a", "b", "c"), "bilinear")
    assert (labels.mask[1::2, 1::3] == 0).all()
    return peak_memory()
