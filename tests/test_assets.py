"""The model and the sample images that come with the package."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import ddpm_seg
from ddpm_seg.data.avatars.render import render
from ddpm_seg.evaluation.scores.miou import confusion_matrix, published_miou
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, read_header
from ddpm_seg.model.bundle.files import ASSETS

SAMPLES_SEED, UNUSED_SEED = 3, 4


def test_the_bundle_is_whole_small_and_says_how_it_was_made() -> None:
    bundle = load_bundle("avatars-10")
    assert bundle.task is not None
    assert bundle.task.name == "avatars_10"
    assert len(bundle.members) == 10
    assert sum(file.stat().st_size for file in (ASSETS / "avatars-10").iterdir()) <= 15e6
    provenance = read_header("avatars-10").provenance
    assert provenance["ensemble"]["images"] == 20
    assert 0 < provenance["validation"]["published_miou"] < 1


def test_the_samples_are_avatars_that_no_training_has_seen() -> None:
    files = sorted((ASSETS / "samples").iterdir())
    assert [file.name for file in files] == [f"{index:05d}.png" for index in range(32)]
    for index in (0, 31):
        assert np.array_equal(np.asarray(Image.open(files[index])), render(SAMPLES_SEED, index)[0])


def test_the_model_segments_avatars_it_has_not_met() -> None:
    """Its recorded score is real: on other avatars the mean IoU is within a few points of it."""
    segmenter = ddpm_seg.load("avatars-10")
    pairs = [render(UNUSED_SEED, index) for index in range(24)]
    results = segmenter([image for image, _ in pairs])
    total = sum(confusion_matrix(r.mask, mask, 10) for r, (_, mask) in zip(results, pairs, strict=True))
    recorded = read_header("avatars-10").provenance["validation"]["published_miou"]
    assert published_miou(np.asarray(total), None) == pytest.approx(recorded, abs=0.08)
