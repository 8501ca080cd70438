"""Clusters of pixels: parts with different features come apart, whatever the seed, and padding counts for nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from ddpm_seg.studies.explore.cluster import cluster_pixels
from ddpm_seg.training.ensemble.pixel_features import PixelFeatures

SIZE = 16


def three_parts(mode: str = "nearest") -> tuple[PixelFeatures, NDArray[np.int64]]:
    """Two images of three parts, whose features are noise around three different points, in two maps."""
    parts = np.zeros((2, SIZE, SIZE), np.int64)
    parts[:, :4] = 1
    parts[:, 12:, 8:] = 2
    generator = torch.Generator().manual_seed(0)
    maps = PixelFeatures(num_images=2, image_size=SIZE, mode=mode, dtype=torch.float32)  # type: ignore[arg-type]
    points = 5 * torch.randn(3, 6, generator=generator)
    fine = points[torch.from_numpy(parts)] + 0.1 * torch.randn(2, SIZE, SIZE, 6, generator=generator)
    coarse = torch.randn(2, 4, 4, 40, generator=generator) * 1e-3
    maps.store(0, [fine.permute(0, 3, 1, 2), coarse.permute(0, 3, 1, 2)])
    return maps, parts


@pytest.mark.parametrize("seed", [0, 1])
def test_parts_come_apart_and_the_largest_is_first(seed: int) -> None:
    maps, parts = three_parts()
    maps = maps.select([0])
    found = cluster_pixels(maps, np.ones(parts.shape, bool), 3, seed)
    assert (found == parts).all()  # 0 is the largest part and 2 the smallest


def test_the_same_seed_gives_the_same_clusters() -> None:
    first, second = (cluster_pixels(three_parts("bilinear")[0], np.ones((2, SIZE, SIZE), bool), 5, 3) for _ in range(2))
    assert (first == second).all()
    assert set(np.unique(first)) == set(range(5))


def test_only_pixels_inside_the_images_are_learned_from_and_counted() -> None:
    maps, parts = three_parts()
    inside = np.zeros(parts.shape, bool)
    inside[:, :4], inside[:, 12:, 8:] = True, True  # without the largest part
    found = cluster_pixels(maps.select([0]), inside, 2, 0)
    assert (found[parts == 1] == 0).all()
    assert (found[parts == 2] == 1).all()


def test_more_clusters_than_pixels_are_refused() -> None:
    maps, parts = three_parts()
    inside = np.zeros(parts.shape, bool)
    inside[0, 0, :3] = True
    with pytest.raises(ValueError, match="--clusters is 4, but the images have only 3 pixels"):
        cluster_pixels(maps.select([0]), inside, 4, 0)
