"""Canvases of several squares, cut for the network and stitched again."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ddpm_seg.model.pixel_labels import PixelLabels
from ddpm_seg.model.segment_canvas import canvas_probabilities, segment_canvases
from ddpm_seg.model.segmenter import Segmenter
from tests.tiny_bundle import tiny_bundle

SIDE = 4


class OfEachPixel:
    """A stand-in network whose answer for a pixel depends on that pixel alone, so that cutting must not change it."""

    image_size = SIDE

    def __init__(self) -> None:
        self.calls: list[int] = []

    def segment(self, images: np.ndarray) -> list[PixelLabels]:
        assert images.shape[1:] == (SIDE, SIDE, 3)
        self.calls.append(len(images))
        return [
            PixelLabels(label=red, uncertainty=red.astype(np.float32), confidence=(green / 255).astype(np.float32))
            for red, green in zip(images[..., 0], images[..., 1], strict=True)
        ]

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        return np.moveaxis(image / np.float32(255), -1, 0)


def canvas(rows: int, columns: int, seed: int = 0) -> np.ndarray:
    shape = (rows * SIDE, columns * SIDE, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_what_is_cut_is_stitched_where_it_was() -> None:
    network = OfEachPixel()
    canvases = [canvas(*grid, seed) for seed, grid in enumerate([(1, 1), (3, 2), (1, 4), (2, 2), (5, 1)])]
    found = segment_canvases(network, canvases)
    assert network.calls == [1 + 6 + 4 + 4 + 5]  # all together
    for pixels, labels in zip(canvases, found, strict=True):
        assert np.array_equal(labels.label, pixels[..., 0])
        assert np.array_equal(labels.uncertainty, pixels[..., 0].astype(np.float32))
        assert np.array_equal(labels.confidence, (pixels[..., 1] / 255).astype(np.float32))
        assert (labels.label.dtype, labels.uncertainty.dtype) == (np.uint8, np.float32)
        assert np.array_equal(canvas_probabilities(network, pixels), np.moveaxis(pixels / np.float32(255), -1, 0))


def test_nothing_to_segment_asks_no_network() -> None:
    assert segment_canvases(SimpleNamespace(image_size=SIDE), []) == []


@pytest.mark.parametrize("shape", [(SIDE, SIDE + 1, 3), (SIDE - 1, SIDE, 3), (0, SIDE, 3), (SIDE, SIDE)])
def test_a_canvas_of_no_whole_squares_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"multiples of {SIDE}, got shape"):
        segment_canvases(OfEachPixel(), [np.zeros(shape, np.uint8)])


def test_one_square_is_the_network_s_own_answer() -> None:
    segmenter = Segmenter(tiny_bundle(), device="cpu")
    side = segmenter.image_size
    squares = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    for found, expected in zip(segment_canvases(segmenter, list(squares)), segmenter.segment(squares), strict=True):
        for name in ("label", "uncertainty", "confidence"):
            assert np.array_equal(getattr(found, name), getattr(expected, name))
    assert np.array_equal(canvas_probabilities(segmenter, squares[0]), segmenter.probabilities(squares[0]))
    both = segment_canvases(segmenter, [np.concatenate(squares[:2], axis=1)])[0]
    assert both.label.shape == both.uncertainty.shape == (side, 2 * side)
