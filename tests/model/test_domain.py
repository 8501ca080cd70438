"""The distance from training images, by its definition and what it must not depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ddpm_seg.model.domain import Domain, describe_maps


def maps_of(seed: int, images: int, spread: float = 1.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    strength = (torch.randn(images, 6, 1, 1, generator=generator) * 0.3 * spread).exp()
    first = strength * torch.randn(images, 6, 8, 8, generator=generator)
    return [first, torch.randn(images, 3, 4, 4, generator=generator)]


def test_maps_are_described_by_each_channels_deviation_within_the_image() -> None:
    maps = maps_of(0, 5)
    deviations = np.concatenate([one.numpy().std(axis=(2, 3)) for one in maps], axis=1)
    np.testing.assert_allclose(describe_maps(maps).numpy(), np.log(deviations), rtol=1e-4, atol=1e-4)


def test_the_distance_is_that_to_the_nearest_image_in_units_of_their_own_distances() -> None:
    training, maps = describe_maps(maps_of(0, 20)), maps_of(1, 7)
    scale = training.std(dim=0) + 1e-3
    scaled, asked = (training / scale).numpy(), (describe_maps(maps) / scale).numpy()
    own = [min(np.abs(one - other).sum() for j, other in enumerate(scaled) if j != i) for i, one in enumerate(scaled)]
    expected = [min(np.abs(one - other).sum() for other in scaled) / np.mean(own) for one in asked]
    np.testing.assert_allclose(Domain(training).distances(maps).numpy(), expected, rtol=1e-4)


def test_a_training_image_is_at_no_distance_and_a_stranger_far_away() -> None:
    domain, known = Domain(describe_maps(maps_of(0, 20))), maps_of(0, 20)
    assert domain.distances(known).abs().max() < 0.01
    assert domain.distances(maps_of(1, 50)).median() == pytest.approx(1, abs=0.15)
    assert domain.distances(maps_of(2, 20, spread=4.0)).median() > 2


def test_it_does_not_depend_on_the_order_of_images_or_the_scale_of_a_channel() -> None:
    training, maps = describe_maps(maps_of(0, 20)), maps_of(1, 7)
    expected = Domain(training).distances(maps)
    torch.testing.assert_close(Domain(training[torch.randperm(20)]).distances(maps), expected)
    stretched = [one * torch.tensor([1e3, 1, 1, 1, 1e-2, 1])[: one.shape[1], None, None] for one in maps_of(0, 20)]
    asked = [one * torch.tensor([1e3, 1, 1, 1, 1e-2, 1])[: one.shape[1], None, None] for one in maps]
    torch.testing.assert_close(Domain(describe_maps(stretched)).distances(asked), expected, rtol=1e-3, atol=1e-3)


def test_channels_that_never_change_do_no_harm() -> None:
    maps = [torch.ones(5, 2, 4, 4), torch.randn(5, 2, 4, 4, generator=torch.Generator().manual_seed(0))]
    assert Domain(describe_maps(maps)).distances(maps).isfinite().all()
