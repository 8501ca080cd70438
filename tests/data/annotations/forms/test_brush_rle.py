from __future__ import annotations

import numpy as np
import pytest
from label_studio_sdk.converter.brush import encode_rle

from ddpm_seg.data.annotations.forms.brush_rle import decode_brush, encode_brush

SHAPES = [(1, 1), (3, 5), (64, 64), (200, 171)]


def regions(shape: tuple[int, int]) -> list[np.ndarray]:
    generator = np.random.default_rng(sum(shape))
    blocks = np.kron(generator.random((4, 4)) < 0.5, np.ones((60, 60), bool))[: shape[0], : shape[1]]
    return [np.zeros(shape, bool), np.ones(shape, bool), generator.random(shape) < 0.3, blocks]


@pytest.mark.parametrize("shape", SHAPES)
def test_round_trip(shape: tuple[int, int]) -> None:
    for pixels in regions(shape):
        assert np.array_equal(decode_brush(encode_brush(pixels), *pixels.shape), pixels)


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_what_label_studio_encodes_is_read(shape: tuple[int, int]) -> None:
    """Its encoder writes single values in a way that ours does not."""
    for pixels in regions(shape):
        encoded = encode_rle(np.repeat(pixels.reshape(-1).astype(np.uint8) * 255, 4))
        assert np.array_equal(decode_brush(encoded, *pixels.shape), pixels)


def test_broken_bytes() -> None:
    data = encode_brush(np.eye(9, dtype=bool))
    with pytest.raises(ValueError, match="have 81 pixels, the image has 8 x 9"):
        decode_brush(data, 8, 9)
    with pytest.raises(ValueError, match="end early"):
        decode_brush(data[:-4], 9, 9)
