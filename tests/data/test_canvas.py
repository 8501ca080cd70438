"""Fitting images to the network's canvas, and bringing masks back."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.canvas import Placement, fit, restore_mask, tile_canvas
from tests.odd_images import picture


def placement_of(width: int, height: int, size: int, mode: str = "letterbox") -> Placement:
    return fit(np.zeros((height, width, 3), np.uint8), size, mode)[1]


# --- fit and restore_mask


@pytest.mark.parametrize("mode", ["letterbox", "stretch"])
@pytest.mark.parametrize("own", [1, 7, 64, 100, 500])
def test_a_square_image_is_resized_as_the_reference_does(mode, own):
    image = picture(own, own)
    canvas, placement = fit(image, 64, mode)
    expected = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(canvas, expected)
    assert (placement.left, placement.top, placement.width, placement.height) == (0, 0, 64, 64)
    if own == 64:
        np.testing.assert_array_equal(canvas, image)


@pytest.mark.parametrize(("width", "height"), [(100, 30), (30, 100), (65, 64), (1, 5000), (5000, 1), (3, 2), (1, 2)])
def test_letterbox_centres_and_repeats_the_edges(width, height):
    image = picture(height, width)
    canvas, placement = fit(image, 64)
    assert canvas.shape == (64, 64, 3)
    assert max(placement.width, placement.height) == 64
    assert abs(placement.width - 64 * width / max(width, height)) <= 1
    assert abs(placement.height - 64 * height / max(width, height)) <= 1
    right, bottom = 64 - placement.left - placement.width, 64 - placement.top - placement.height
    assert 0 <= right - placement.left <= 1
    assert 0 <= bottom - placement.top <= 1
    content = placement.crop(canvas)
    resized = Image.fromarray(image).resize((placement.width, placement.height), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(content, np.asarray(resized))
    padded = np.pad(content, ((placement.top, bottom), (placement.left, right), (0, 0)), mode="edge")
    np.testing.assert_array_equal(canvas, padded)


@pytest.mark.parametrize("size", [(64, 128), (128, 64), (64, 64), (1, 50)])
@pytest.mark.parametrize(("width", "height"), [(100, 30), (30, 100), (200, 100), (100, 200), (1, 5000), (3, 2)])
def test_a_canvas_need_not_be_square(size, width, height):
    canvas, placement = fit(picture(height, width), size)
    assert canvas.shape == (*size, 3)
    assert placement.width == size[1] or placement.height == size[0]
    scale = min(size[1] / width, size[0] / height)
    assert abs(placement.width - max(1, scale * width)) <= 0.5
    assert abs(placement.height - max(1, scale * height)) <= 0.5
    assert abs(2 * placement.left + placement.width - size[1]) <= 1
    assert abs(2 * placement.top + placement.height - size[0]) <= 1
    assert restore_mask(canvas[..., 0], placement).shape == (height, width)
    if size[0] == size[1]:
        np.testing.assert_array_equal(canvas, fit(picture(height, width), size[0])[0])
    stretched, whole = fit(picture(height, width), size, "stretch")
    assert stretched.shape == (*size, 3)
    assert (whole.left, whole.top, whole.width, whole.height) == (0, 0, size[1], size[0])


def test_stretch_fills_the_square():
    canvas, placement = fit(picture(30, 100), 64, "stretch")
    assert (placement.left, placement.top, placement.width, placement.height) == (0, 0, 64, 64)
    assert (placement.image_width, placement.image_height) == (100, 30)
    expected = Image.fromarray(picture(30, 100)).resize((64, 64), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(canvas, np.asarray(expected))


@pytest.mark.parametrize(
    ("image", "size", "mode"),
    [
        (np.zeros((4, 4), np.uint8), 8, "letterbox"),
        (np.zeros((4, 4, 4), np.uint8), 8, "letterbox"),
        (np.zeros((4, 4, 3), np.float32), 8, "letterbox"),
        (np.zeros((0, 4, 3), np.uint8), 8, "letterbox"),
        (np.zeros((4, 4, 3), np.uint8), 0, "letterbox"),
        (np.zeros((4, 4, 3), np.uint8), (8, 0), "stretch"),
        (np.zeros((4, 4, 3), np.uint8), 8, "crop"),
    ],
)
def test_fit_names_what_it_cannot_use(image, size, mode):
    with pytest.raises(ValueError, match=r"expected an image|size must|mode must"):
        fit(image, size, mode)


@pytest.mark.parametrize("mode", ["letterbox", "stretch"])
@pytest.mark.parametrize(("height", "width"), [(30, 100), (101, 7), (64, 64), (1, 1)])
def test_a_finer_canvas_has_the_same_content_in_more_pixels(height, width, mode):
    canvas, placement = fit(picture(height, width), 16, mode, finer=3)
    _, plain = fit(picture(height, width), 16, mode)
    assert placement == plain
    assert canvas.shape == (48, 48, 3)
    fine = placement.finer(3)
    content = Image.fromarray(picture(height, width)).resize((fine.width, fine.height), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(fine.crop(canvas), np.asarray(content))
    assert (fine.image_width, fine.image_height) == (width, height)


@pytest.mark.parametrize(
    ("height", "width", "scale", "expected"),
    [(100, 200, 1, (100, 200)), (100, 201, 0.5, (50, 100)), (40, 900, 0.5, (32, 450)), (10, 20, 1, (32, 32))],
)
def test_the_canvas_for_tiles_is_the_image_at_a_scale(height, width, scale, expected):
    image = picture(height, width)
    size = tile_canvas(image, 32, scale)
    assert size == expected
    canvas, placement = fit(image, size)
    assert canvas.shape == (*size, 3)
    if scale == 1 and min(height, width) >= 32:
        assert not placement.resized
        np.testing.assert_array_equal(canvas, image)


@pytest.mark.parametrize("mode", ["letterbox", "stretch"])
def test_same_size_round_trip_is_the_identity(mode):
    label = np.random.default_rng(0).integers(0, 34, (64, 64)).astype(np.uint8)
    np.testing.assert_array_equal(restore_mask(label, placement_of(64, 64, 64, mode)), label)
    wide = placement_of(64, 20, 64)
    np.testing.assert_array_equal(restore_mask(label, wide), label[22:42])


def random_sizes(count: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 300, (count, 2)).tolist()
    return [(1, 1), (1, 300), (300, 1), (2, 1), (4000, 3), *((width, height) for width, height in sizes)]


@pytest.mark.parametrize("mode", ["letterbox", "stretch"])
def test_a_restored_mask_has_the_own_size_and_nothing_of_the_padding(mode):
    rng = np.random.default_rng(1)
    for width, height in random_sizes(40):
        placement = placement_of(width, height, 48, mode)
        label = np.full((48, 48), 255, np.uint8)
        content = rng.integers(0, 34, (placement.height, placement.width)).astype(np.uint8)
        placement.crop(label)[:] = content
        mask = restore_mask(label, placement)
        assert mask.shape == (height, width)
        assert mask.dtype == np.uint8
        assert 255 not in mask
        if width >= placement.width and height >= placement.height:
            assert set(np.unique(mask)) == set(np.unique(content)), "enlarging keeps every class"


def test_restore_mask_is_nearest_by_pixel_centres():
    rng = np.random.default_rng(2)
    for width, height in random_sizes(40):
        placement = placement_of(width, height, 48)
        label = rng.integers(0, 34, (48, 48)).astype(np.uint8)
        mask = restore_mask(label, placement)
        y, x = np.mgrid[0:height, 0:width]
        rows, row_ties = np.divmod((2 * y + 1) * placement.height, 2 * height)
        columns, column_ties = np.divmod((2 * x + 1) * placement.width, 2 * width)
        np.testing.assert_array_equal(mask, label[placement.top + rows, placement.left + columns])
        pillow = Image.fromarray(np.ascontiguousarray(placement.crop(label)))
        pillow = np.asarray(pillow.resize((width, height), Image.Resampling.NEAREST))
        inside = (row_ties > 0) & (column_ties > 0)  # Pillow adds up steps in floating point, and may round a tie down
        np.testing.assert_array_equal(mask[inside], pillow[inside])


def test_the_mask_of_a_fitted_image_lies_where_the_image_lay():
    """A picture of two halves, labelled by its brightness at the network's size, comes back as two halves."""
    image = np.zeros((90, 200, 3), np.uint8)
    image[:, 100:] = 255
    canvas, placement = fit(image, 64)
    label = (canvas[:, :, 0] > 127).astype(np.uint8)
    np.testing.assert_array_equal(restore_mask(label, placement), image[:, :, 0] // 255)


def test_a_label_smaller_than_its_placement_is_refused():
    with pytest.raises(ValueError, match="does not lie on a canvas"):
        restore_mask(np.zeros((32, 32), np.uint8), placement_of(64, 64, 64))
