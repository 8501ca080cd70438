"""Refined masks: edges that follow the image, against plain computations, and what must hold of any."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from ddpm_seg.data.canvas import Placement, fit
from ddpm_seg.data.fit_options import Refine
from ddpm_seg.data.masks import bilateral as bilateral_module
from ddpm_seg.data.masks.bilateral import RANGE_SIGMA, REACH, SPATIAL_SIGMA, bilateral
from ddpm_seg.data.masks.enlarge import enlarge
from ddpm_seg.data.masks.grid import Axis
from ddpm_seg.data.masks.guided import EPSILON, RADIUS, guided
from ddpm_seg.data.masks.refine import refined
from ddpm_seg.data.masks.top_classes import ONE, TopClasses
from tests.data.masks.top_classes import top_classes

SIZE = 16
BOTH: list[Refine] = ["bilateral", "guided"]


def scene(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, TopClasses, Placement]:
    """An image of three flat colours with curved edges, its exact mask, and what a network sees of it: class shares."""
    draw = np.random.default_rng(seed)
    fields = [ndimage.gaussian_filter(draw.standard_normal((height, width)), min(height, width) / 8) for _ in range(3)]
    mask = np.argmax(fields, axis=0).astype(np.uint8)
    image = np.array([[220, 40, 60], [30, 200, 90], [40, 60, 190]], np.uint8)[mask]
    _, placement = fit(image, SIZE, "stretch")
    shares = [
        np.asarray(Image.fromarray((mask == one).astype(np.float32)).resize((SIZE, SIZE), Image.Resampling.BOX))
        for one in range(3)
    ]
    return image, mask, top_classes(np.stack(shares)), placement


@pytest.mark.parametrize("how", BOTH)
@pytest.mark.parametrize(("height", "width"), [(96, 96), (80, 150)])
def test_edges_come_nearer_to_those_of_the_image(how: Refine, height: int, width: int) -> None:
    image, mask, top, placement = scene(height, width)
    plain, found = enlarge(top, placement), refined(top, placement, how, image)
    assert (found.mask != mask).mean() < 0.6 * (plain.mask != mask).mean()
    assert found.mask.shape == found.confidence.shape == (height, width)


@pytest.mark.parametrize("how", BOTH)
def test_a_flat_image_has_no_say_and_certain_classes_stay(how: Refine) -> None:
    image, _, top, placement = scene(64, 64)
    flat = refined(top, placement, how, np.full_like(image, 128))
    assert (flat.mask == enlarge(top, placement).mask).mean() > 0.9
    certain = np.zeros((4, SIZE, SIZE))
    certain[2] = 1
    found = refined(top_classes(certain), placement, how, image)
    assert (found.mask == 2).all()
    assert (found.confidence >= 254).all()


@pytest.mark.parametrize("how", BOTH)
def test_no_class_appears_that_the_network_did_not_name(how: Refine) -> None:
    image, _, top, placement = scene(64, 64, seed=3)
    found = refined(top, placement, how, np.random.default_rng(0).integers(0, 256, image.shape).astype(np.uint8))
    assert set(np.unique(found.mask)) <= set(np.unique(top.ids[top.probabilities > 0]))


def test_joint_bilateral_upsampling_is_the_papers_sum() -> None:
    image, _, top, placement = scene(40, 56)
    image = np.clip(image + np.random.default_rng(1).normal(0, 20, image.shape), 0, 255).astype(np.uint8)
    found = bilateral(top, placement, image)
    guide = np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR)) / 255
    p = np.zeros((3, SIZE, SIZE))
    np.put_along_axis(p, top.ids.astype(int), top.probabilities / ONE, axis=0)
    for y, x in [(0, 0), (20, 31), (39, 55), (7, 50), (25, 3)]:
        v, u = (y + 0.5) * SIZE / 40 - 0.5, (x + 0.5) * SIZE / 56 - 0.5
        sums, total = np.zeros(3), 0.0
        for j in range(round(v) - REACH, round(v) + REACH + 1):
            for i in range(round(u) - REACH, round(u) + REACH + 1):
                if 0 <= j < SIZE and 0 <= i < SIZE:
                    near = np.exp(-((j - v) ** 2 + (i - u) ** 2) / (2 * SPATIAL_SIGMA**2))
                    weight = near * np.exp(-((image[y, x] / 255 - guide[j, i]) ** 2).sum() / (2 * RANGE_SIGMA**2))
                    sums, total = sums + weight * p[:, j, i], total + weight
        assert found.mask[y, x] == np.argmax(sums)
        assert found.confidence[y, x] == pytest.approx(ONE * sums.max() / total, abs=0.6)


def test_the_guided_filter_is_the_papers_on_the_whole_image() -> None:
    image, _, top, placement = scene(60, 60)
    image = np.clip(image + np.random.default_rng(1).normal(0, 20, image.shape), 0, 255).astype(np.uint8)
    size = 2 * round(RADIUS * 60 / SIZE) + 1
    guide = image / 255

    def mean(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(values, (size, size, *([0] * (values.ndim - 2))))

    covariance = mean(guide[..., :, None] * guide[..., None, :]) - mean(guide)[..., :, None] * mean(guide)[..., None, :]
    axis, filtered = Axis.between(SIZE, 60), []
    for class_id in range(3):
        plane = np.where(top.ids == class_id, top.probabilities, 0).sum(axis=0).astype(np.float32)
        p = axis.interpolate(axis.interpolate(plane, 1), 0)
        both = mean(guide * p[..., None]) - mean(guide) * mean(p)[..., None]
        a = np.linalg.solve(covariance + EPSILON * np.eye(3), both[..., None])[..., 0]
        b = mean(p) - (a * mean(guide)).sum(axis=-1)
        q = (mean(a) * guide).sum(axis=-1) + mean(b)
        filtered.append(np.where(p > 0, q.clip(0, ONE), -1))
    found = guided(top, placement, image)
    assert (found.mask == np.argmax(filtered, axis=0)).mean() > 0.995  # ties apart
    np.testing.assert_allclose(found.confidence, np.max(filtered, axis=0), atol=1)


def test_tiles_and_strips_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    image, _, top, placement = scene(150, 130)
    whole, tiled = guided(top, placement, image, tile=1000), guided(top, placement, image, tile=37)
    assert (whole.mask == tiled.mask).mean() > 0.999
    np.testing.assert_allclose(whole.confidence, tiled.confidence.astype(int), atol=1)
    once = bilateral(top, placement, image)
    monkeypatch.setattr("ddpm_seg.data.masks.enlarge.STRIP_PIXELS", 4000)
    assert bilateral_module.bilateral(top, placement, image).mask.tobytes() == once.mask.tobytes()


@pytest.mark.parametrize("how", BOTH)
def test_the_image_must_be_the_masks_own(how: Refine) -> None:
    image, _, top, placement = scene(64, 64)
    for other in (image[1:], image / 255):
        with pytest.raises(ValueError, match="expected the mask's image"):
            refined(top, placement, how, other)
    with pytest.raises(ValueError, match="needs the image"):
        refined(top, placement, how, None)
    assert (refined(top, placement, "none", None).mask == enlarge(top, placement).mask).all()


@pytest.mark.parametrize("refine", BOTH)
def test_pixels_whose_colour_no_neighbour_has_keep_the_class_around_them(refine: Refine) -> None:
    """Lone pixels in colours far from all others, as in noise: no weight vanishes."""
    image = np.full((128, 128, 3), 255, np.uint8)
    image[::9, ::7] = 0
    _, placement = fit(image, 8, "stretch")
    probabilities = np.full((4, 8, 8), 0.1 / 3, np.float32)
    probabilities[2] = 0.9
    found = refined(top_classes(probabilities), placement, refine, image)
    assert np.all(found.mask == 2)
    assert found.confidence.min() > 0.8 * ONE
