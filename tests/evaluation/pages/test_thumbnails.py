import base64
import io

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.overlay import overlay
from ddpm_seg.evaluation.pages.thumbnails import thumbnails

PALETTE = ((0, 0, 0), (255, 0, 0), (0, 255, 0))


def picture(data_uri):
    return Image.open(io.BytesIO(base64.b64decode(data_uri.partition(",")[2])))


def example(height, width):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (height, width, 3), np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2] = 1
    return image, mask


@pytest.mark.parametrize(
    ("height", "width", "shown"),
    [
        (64, 64, (192, 192)),
        (50, 90, (180, 100)),
        (150, 100, (100, 150)),
        (192, 192, (192, 192)),
        (400, 800, (192, 96)),
        (2000, 3, (1, 192)),
        (1, 1, (192, 192)),
    ],
)
def test_the_longest_side_is_192_at_most(height, width, shown):
    sources = thumbnails(*example(height, width), PALETTE)
    assert [picture(source).size for source in sources] == [shown, shown]


def test_small_images_grow_by_whole_pixels():
    image, mask = example(64, 64)
    image_src, overlay_src = thumbnails(image, mask, PALETTE)
    assert (np.asarray(picture(image_src))[::3, ::3] == image).all()
    assert (np.asarray(picture(overlay_src))[2::3, 2::3] == overlay(image, mask, PALETTE)).all()


def test_large_overlays_have_the_colours_in_place():
    image = np.full((900, 600, 3), 100, np.uint8)
    mask = np.full((900, 600), 255, np.uint8)
    mask[:450], mask[450:, :300] = 1, 2
    drawn = np.asarray(picture(thumbnails(image, mask, PALETTE)[1])).astype(int)
    for (y, x), expected in {(48, 64): (178, 50, 50), (144, 32): (50, 178, 50), (144, 96): (100, 100, 100)}.items():
        assert np.abs(drawn[y, x] - expected).max() <= 6


@pytest.mark.parametrize("size", [64, 500])
def test_without_an_image_the_mask_stands_alone(size):
    image_src, overlay_src = thumbnails(None, example(size, size)[1], PALETTE)
    assert image_src is None
    drawn = np.asarray(picture(overlay_src).convert("RGB")).astype(int)
    assert np.abs(drawn[20, 20] - (255, 0, 0)).max() <= 6
