"""A bundle's calibration: beside what is hashed, changes confidence and nothing else, and is refused where damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ddpm_seg
from ddpm_seg.model.bundle.calibration import CALIBRATION, Calibration
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, read_header, save_bundle
from ddpm_seg.model.errors import BundleError, ModelChangedError
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.model.trained import refuse_another_calibration
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.plan import hash_config
from tests.tiny_bundle import TASK, tiny_bundle

TWICE = Calibration(temperatures=(2.0,) * TASK.num_classes, images=7)


def test_it_is_read_back_and_is_no_part_of_the_models_id(tmp_path: Path) -> None:
    plain, own = tiny_bundle(), replace(tiny_bundle(), calibration=TWICE)
    save_bundle(plain, str(tmp_path / "plain"))
    save_bundle(own, str(tmp_path / "own"))
    assert not (tmp_path / "plain" / CALIBRATION).exists()
    assert read_header(str(tmp_path / "plain")).model_id == read_header(str(tmp_path / "own")).model_id
    assert load_bundle(str(tmp_path / "own")).calibration == TWICE
    assert load_bundle(str(tmp_path / "plain")).calibration is None
    assert (tmp_path / "plain" / "bundle.json").read_bytes() == (tmp_path / "own" / "bundle.json").read_bytes()


def test_outputs_of_calibrated_and_other_confidence_stand_apart(tmp_path: Path) -> None:
    header = save_bundle(tiny_bundle(), str(tmp_path))
    hashes = {hash_config(LabelConfig(), replace(header, calibration=one)) for one in (None, TWICE)}
    other = replace(TWICE, temperatures=(1.5,) * TASK.num_classes)
    hashes.add(hash_config(LabelConfig(), replace(header, calibration=other)))
    assert len(hashes) == 3
    refitted = replace(header, calibration=replace(TWICE, images=8))
    assert hash_config(LabelConfig(), refitted) in hashes  # the same temperatures, the same pixels


def test_labels_stay_and_confidence_falls(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), dtype=np.uint8)
    plain, own = Segmenter(tiny_bundle()), Segmenter(replace(tiny_bundle(), calibration=TWICE))
    for one, other, image in zip(plain.segment(images), own.segment(images), images, strict=True):
        np.testing.assert_array_equal(one.label, other.label)
        np.testing.assert_array_equal(one.uncertainty, other.uncertainty)
        assert other.confidence.mean() < one.confidence.mean()
        p, q = plain.probabilities(image), own.probabilities(image)
        expected = p**0.5 / (p**0.5).sum(axis=0)
        np.testing.assert_allclose(q, expected, atol=1e-5)
        assert other.top_probabilities is not None
        np.testing.assert_allclose(other.top_probabilities[0] / 255, q.max(axis=0), atol=0.003)


def test_the_notebook_shows_calibrated_confidence(tmp_path: Path) -> None:
    save_bundle(tiny_bundle(), str(tmp_path / "plain"))
    save_bundle(replace(tiny_bundle(), calibration=TWICE), str(tmp_path / "own"))
    image = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    plain, own = (ddpm_seg.load(str(tmp_path / name))(image) for name in ("plain", "own"))
    assert own.statistics.mean_confidence < plain.statistics.mean_confidence
    np.testing.assert_allclose(own.probabilities.sum(axis=0), 1, atol=1e-5)


@pytest.mark.parametrize(
    "content",
    [
        b"{",
        b"[]",
        json.dumps({"schema_version": 2, "temperatures": [1.0] * TASK.num_classes, "images": 1}).encode(),
        json.dumps({"schema_version": 1, "temperatures": [1.0], "images": 1}).encode(),
        json.dumps({"schema_version": 1, "temperatures": [0.0] * TASK.num_classes, "images": 1}).encode(),
        json.dumps({"schema_version": 1, "temperatures": ["1"] * TASK.num_classes, "images": 1}).encode(),
        json.dumps({"schema_version": 1, "temperatures": [1.0] * TASK.num_classes, "images": None}).encode(),
        b"[" * 100_000,
    ],
)
def test_a_damaged_one_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    save_bundle(tiny_bundle(), str(tmp_path))
    (tmp_path / CALIBRATION).write_bytes(content)
    with pytest.raises(BundleError, match=r"calibration\.json: .*delete it"):
        read_header(str(tmp_path))


def test_a_worker_that_finds_another_one_stops() -> None:
    bundle = replace(tiny_bundle(), calibration=TWICE)
    refuse_another_calibration("model", bundle, TWICE.digest)
    refuse_another_calibration("model", tiny_bundle(), None)
    for digest in (None, "0" * 12):
        with pytest.raises(ModelChangedError, match="restore it"):
            refuse_another_calibration("model", bundle, digest)
