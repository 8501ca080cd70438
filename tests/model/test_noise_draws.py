from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from ddpm_seg.model.bundle.ensemble_bundle import BundleHeader
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.resident import resident_extractor
from ddpm_seg.training.ensemble.feature_files import feature_uris
from tests.tiny_bundle import tiny_bundle

FEATURES = FeatureConfig(steps=(10, 60), blocks=(0, 1))


def test_maps_are_means_over_noises() -> None:
    bundle = tiny_bundle()
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    assert bundle.noise is not None
    noises = [bundle.noise, *(torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(n)) for n in (1, 2))]
    with torch.inference_mode():
        under = [
            resident_extractor(dataclasses.replace(bundle, noise=noise), "cpu")(images, FEATURES) for noise in noises
        ]
        drawn = resident_extractor(bundle, "cpu")(images, dataclasses.replace(FEATURES, noise_draws=3), micro_batch=3)
    assert len(drawn) == len(under[0]) == 4
    for place, found in enumerate(drawn):
        expected = torch.stack([maps[place] for maps in under]).mean(dim=0)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert (found - under[0][place]).abs().max() > 1e-3


def test_only_features_that_use_it_know_of_it() -> None:
    assert repr(FEATURES) == "FeatureConfig(steps=(10, 60), blocks=(0, 1), upsample_mode='bilinear')"
    assert set(FEATURES.to_json()) == {"steps", "blocks", "upsample_mode"}
    three = dataclasses.replace(FEATURES, noise_draws=3)
    assert three.to_json()["noise_draws"] == 3
    bundle, image = tiny_bundle(), np.zeros((16, 16, 3), np.uint8)
    assert feature_uris(bundle, [image], FEATURES, "f") != feature_uris(bundle, [image], three, "f")

    header = BundleHeader(
        network=bundle.network, features=three, task=bundle.task, num_members=2, files={}, provenance={}
    )
    assert dataclasses.replace(header, features=FEATURES).model_id != header.model_id


@pytest.mark.parametrize("wrong", [0, -1, 10**6])
def test_no_or_too_many_noises_are_refused(wrong: int) -> None:
    with pytest.raises(ValueError, match="noise_draws"):
        dataclasses.replace(FEATURES, noise_draws=wrong)
