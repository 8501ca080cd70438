"""Bundles of every kind that version 6f6d309 wrote are the same models today."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddpm_seg.model.bundle.ensemble_bundle import read_header
from ddpm_seg.model.trained import load_model, read_trained_header, resident
from tests.model.golden_weights import image
from tests.recorded.recorded import FACTS, unpack

BUNDLES = FACTS["bundles"]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack("bundles", tmp_path_factory.mktemp("bundles"))


def test_every_kind_is_there() -> None:
    assert set(BUNDLES) == {"ddpm", "ddpm-ensemble", "diffusers", "mae", "student", "swav"}


@pytest.mark.parametrize("name", sorted(BUNDLES))
def test_a_bundle_opens_under_its_own_name(bundles: Path, name: str) -> None:
    uri, labels = str(bundles / name), BUNDLES[name]["mask"] is not None
    header = read_trained_header(uri)[0] if labels else read_header(uri)
    assert header.model_id == BUNDLES[name]["model_id"]
    load_model(uri)  # every file agrees with its sha256 and every tensor with the network


@pytest.mark.parametrize("name", [name for name, facts in BUNDLES.items() if facts["mask"] is not None])
def test_a_bundle_labels_as_it_did(bundles: Path, name: str) -> None:
    model, recorded = resident(load_model(str(bundles / name)), device="cpu", batch_size=1), BUNDLES[name]["mask"]
    (labels,) = model.segment(image(0, model.image_size)[None])
    # Not every processor rounds alike: a pixel between two classes may change sides.
    assert (labels.label == np.array([list(map(int, row)) for row in recorded])).mean() > 0.98
