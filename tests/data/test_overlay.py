import numpy as np
import pytest

from ddpm_seg.data.overlay import colorize, overlay

PALETTE = ((10, 20, 30), (200, 100, 0), (0, 0, 255))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)


@pytest.fixture
def mask():
    mask = np.random.default_rng(1).integers(0, 3, (7, 5)).astype(np.uint8)
    mask[2, 3] = 255
    return mask


def test_colorize_gives_every_class_its_colour(mask):
    colours = colorize(mask, PALETTE)
    assert colours.shape == (7, 5, 3)
    assert colours.dtype == np.uint8
    for class_id, colour in enumerate(PALETTE):
        assert (colours[mask == class_id] == colour).all()
    assert (colours[2, 3] == 0).all()


def test_opacity_runs_from_the_image_to_the_colours(image, mask):
    classes = mask != 255
    assert (overlay(image, mask, PALETTE, 0) == image).all()
    assert (overlay(image, mask, PALETTE, 1)[classes] == colorize(mask, PALETTE)[classes]).all()
    half = overlay(image, mask, PALETTE)
    mean = (image.astype(float) + colorize(mask, PALETTE)) / 2
    assert np.abs(half - mean)[classes].max() <= 0.5


def test_left_out_pixels_stay_uncoloured_and_inputs_unchanged(image, mask):
    image_before, mask_before = image.copy(), mask.copy()
    assert (overlay(image, mask, PALETTE, 0.8)[2, 3] == image[2, 3]).all()
    assert (image == image_before).all()
    assert (mask == mask_before).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask": np.zeros((5, 7), np.uint8)}, "same size"),
        ({"mask": np.zeros((7, 5), np.int64)}, "int64"),
        ({"mask": np.full((7, 5), 3, np.uint8)}, "class 3, the palette only 0 to 2"),
        ({"opacity": 1.5}, "opacity is 1.5"),
        ({"palette": ()}, "0 colours"),
        ({"image": np.zeros((7, 5), np.uint8)}, r"expected uint8 \(H, W, 3\)"),
    ],
)
def test_wrong_arguments_are_named(image, mask, change, message):
    arguments = {"image": image, "mask": mask, "palette": PALETTE} | change
    with pytest.raises(ValueError, match=message):
        overlay(**arguments)
