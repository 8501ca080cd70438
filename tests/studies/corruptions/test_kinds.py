from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from ddpm_seg.studies.corruptions.config import SEVERITIES, Kind
from ddpm_seg.studies.corruptions.kinds import corrupt

KINDS: tuple[Kind, ...] = get_args(Kind)
RANDOM = {*KINDS} - {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}


def picture(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A bright disc on a dark ground, with some texture, and its mask."""
    rows, columns = np.mgrid[:height, :width]
    label = (np.hypot(rows / height - 0.5, columns / width - 0.5) < 0.3).astype(np.uint8)
    texture = 20 * np.sin(24 * np.pi * columns / width)
    image = np.stack([60 + 110 * label + texture, 90 - 40 * label - texture, 40 + 60 * label], axis=2)
    return image.clip(0, 255).astype(np.uint8), label


def distance(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    return float(np.abs(one.astype(int) - other).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_a_corruption_is_always_the_same_and_grows_with_its_severity(kind: Kind) -> None:
    image, label = picture(48, 64)
    kept = image.copy()
    found = [corrupt(image, label, kind, severity, "a.png") for severity in SEVERITIES]
    assert all(one.shape == image.shape and one.dtype == np.uint8 for one, _ in found)
    assert all(moved.shape == label.shape and moved.dtype == np.uint8 for _, moved in found)
    np.testing.assert_array_equal(image, kept)
    distances = [distance(one, image) for one, _ in found]
    assert min(distances) > 0.5
    if kind != "elastic_transform":  # ImageNet-C's three last severities of it are waves, the first two are turns
        assert distances[4] > 1.1 * distances[0]
    again = corrupt(image, label, kind, 3, "a.png")
    np.testing.assert_array_equal(again[0], found[2][0])
    another = corrupt(image, label, kind, 3, "b.png")
    assert np.array_equal(another[0], found[2][0]) == (kind not in RANDOM)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_stay_on_what_they_name(kind: Kind) -> None:
    image, label = picture(96, 96)
    image = np.repeat(255 * label[..., None], 3, axis=2)
    for severity in SEVERITIES:
        found, moved = corrupt(image, label, kind, severity, "a.png")
        assert np.array_equal(moved, label) == (kind != "elastic_transform")
        if kind == "elastic_transform":
            assert ((found[..., 0] > 127) == moved).mean() > 0.97


@pytest.mark.parametrize("kind", ["defocus_blur", "zoom_blur", "jpeg_compression"])
def test_only_lengths_grow_with_the_image(kind: Kind) -> None:
    small, label = picture(64, 64)
    large = np.asarray(Image.fromarray(small).resize((192, 192), Image.Resampling.BICUBIC))
    found = [corrupt(one, label, kind, 4, "a.png")[0] for one in (small, large)]
    reduced = np.asarray(Image.fromarray(found[1]).resize((64, 64), Image.Resampling.BOX))
    lost = distance(found[0], small)
    assert (distance(found[0], reduced) < 0.5 * lost) == (kind != "jpeg_compression")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0, 255])
def test_images_of_any_size_and_of_one_colour_are_taken(kind: Kind, value: int) -> None:
    for height, width in ((1, 1), (2, 31), (40, 3)):
        image = np.full((height, width, 3), value, np.uint8)
        with np.errstate(all="raise", under="ignore"):
            found, _ = corrupt(image, np.zeros((height, width), np.uint8), kind, 5, "a.png")
        assert found.shape == image.shape
