from __future__ import annotations

import numpy as np

from ddpm_seg.data.annotations.load import Annotation
from ddpm_seg.data.canvas import fit
from ddpm_seg.tasks import TASKS
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig
from ddpm_seg.training.rivals.rgb_features import rgb_and_coordinates, train_on_rgb

SIZE = 16


def coloured(count: int, first: int) -> list[Annotation]:
    """Class 1 where it is bright, and among the dark pixels 2 in the lower half: colour and place both matter."""
    annotations = []
    for index in range(first, first + count):
        rng = np.random.default_rng(index)
        bright = rng.random((SIZE, SIZE)) < 0.4
        label = np.where(bright, 1, np.where(np.arange(SIZE)[:, None] < SIZE // 2, 0, 2)).astype(np.uint8)
        image = np.where(bright[..., None], 210, 40) + rng.integers(-30, 30, (SIZE, SIZE, 3))
        fitted, placement = fit(image.astype(np.uint8), SIZE)
        annotations.append(Annotation(uri=str(index), image=fitted, label=label, placement=placement))
    return annotations


def test_a_pixel_is_its_colour_and_its_place() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3), dtype=np.uint8)
    maps = rgb_and_coordinates(images, "cpu").numpy()
    assert maps.shape == (2, 5, SIZE, SIZE)
    np.testing.assert_allclose(maps[:, :3], images.transpose(0, 3, 1, 2) / 127.5 - 1, atol=1e-6)
    for image in maps:
        np.testing.assert_allclose(image[3], np.tile(np.linspace(-1, 1, SIZE), (SIZE, 1)), atol=1e-6)
        np.testing.assert_allclose(image[4], image[3].T)


def test_the_ensemble_learns_from_both() -> None:
    label = train_on_rgb(coloured(3, 0), task=TASKS["avatars_10"], training=EnsembleConfig(members=2, iterations=200))
    test = coloured(3, 100)
    predicted = label(np.stack([annotation.image for annotation in test]))
    assert predicted.dtype == np.uint8
    assert (predicted == np.stack([annotation.label for annotation in test])).mean() > 0.95
