"""Drawing and labelling in an actor: a network that gives maps with the image, beside the DDPM of the other tests."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import ddpm_seg
from ddpm_seg.evaluation.scores.quality import check_real
from ddpm_seg.model.bundle import network_json
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, save_bundle
from ddpm_seg.model.errors import BundleError
from ddpm_seg.model.networks.known import NETWORKS
from ddpm_seg.model.resident import resident_drawer, resident_extractor
from ddpm_seg.model.samples.sampling import SamplingConfig
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.model.trained import read_trained_header
from ddpm_seg.pipeline.generate.config import GenerateConfig
from ddpm_seg.pipeline.generate.job import GenerateWork
from ddpm_seg.pipeline.generate.plan import plan_generate
from ddpm_seg.pipeline.generate.rows import Sample, SampleInput
from ddpm_seg.pipeline.generate.stages import Draw
from ddpm_seg.studies.showcase import ShowcaseConfig, showcase
from tests.model.tiny_networks import backbone_bundle, images
from tests.model.toy_drawer import SPOILT, ToyConfig
from tests.tiny_bundle import tiny_bundle

BUNDLE = backbone_bundle(ToyConfig(image_size=16, width=4))


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(network_json, "NETWORKS", (*NETWORKS, ToyConfig))
    save_bundle(BUNDLE, str(tmp_path / "toy"))
    return str(tmp_path / "toy")


def draw(model: str, numbers: range, chunk_size: int) -> list[Sample]:
    """As the actors of a job do, in chunks."""
    actor = Draw(model, sampling=SamplingConfig(), dtype="float32", batch_size=3, threads=1)
    samples = []
    for start in range(0, len(numbers), chunk_size):
        sources = [
            SampleInput(image_id=str(n), uri=f"sample:7/{n}", seed=7, number=n)
            for n in numbers[start : start + chunk_size]
        ]
        samples += pickle.loads(actor({"payload": pickle.dumps(sources)})["payload"])
    return samples


def test_a_samples_image_and_labels_depend_on_its_number_alone(toy: str) -> None:
    whole, parts = draw(toy, range(7), 7), draw(toy, range(7), 2)
    alone = draw(toy, range(4, 5), 1)[0]
    assert [sample.source.number for sample in whole] == list(range(7))
    for one, other in [*zip(whole, parts, strict=True), (whole[4], alone)]:
        if one.source.number == SPOILT:
            assert (one.image, one.label, one.error_type) == (None, None, other.error_type)
            continue
        assert np.array_equal(one.image, other.image)
        assert np.array_equal(one.label.label, other.label.label)
        assert np.array_equal(one.label.uncertainty, other.label.uncertainty)


def test_labels_come_from_the_maps_of_the_pass_that_drew(toy: str) -> None:
    sample = draw(toy, range(2, 3), 1)[0]
    bundle = load_bundle(toy)
    (drawn,) = resident_drawer(bundle, SamplingConfig(), "cpu", batch_size=3).draw(7, [2], bundle.features)
    (expected,) = Segmenter(bundle, device="cpu").segment_maps(drawn.maps)
    assert np.array_equal(sample.image, drawn.image)
    assert np.array_equal(sample.label.label, expected.label)
    assert len(np.unique(expected.label)) > 1


def test_maps_of_an_extractor_are_labelled_as_its_images_are() -> None:
    bundle = tiny_bundle()
    segmenter = Segmenter(bundle, device="cpu", batch_size=1)
    pictures = images(2, 16)
    with torch.inference_mode():
        maps = segmenter.extractor(pictures, segmenter.features, micro_batch=1)
    for one, other in zip(segmenter.segment_maps(maps), segmenter.segment(pictures), strict=True):
        assert np.array_equal(one.label, other.label)
        assert np.array_equal(one.uncertainty, other.uncertainty)


def test_without_an_ensemble_nothing_is_labelled_and_no_maps_are_kept(toy: str, tmp_path: Path) -> None:
    save_bundle(dataclasses.replace(BUNDLE, members=(), features=None, task=None), str(tmp_path / "alone"))
    samples = draw(str(tmp_path / "alone"), range(3), 3)
    assert [sample.label for sample in samples] == [None] * 3
    assert all(sample.image is not None for sample in samples)


def test_a_plan_says_how_the_network_draws(toy: str, tmp_path: Path) -> None:
    config = GenerateConfig(model=toy, output=str(tmp_path / "out"), num_samples=3)
    plan = plan_generate(config)
    assert "toy        in one pass" in str(plan)
    assert "timesteps" not in str(plan)
    assert plan_generate(dataclasses.replace(config, dtype="bfloat16")).run.config_hash != plan.run.config_hash
    stored = GenerateWork(plan).stored()
    assert stored["seed"] == 0
    assert not {field.name for field in dataclasses.fields(SamplingConfig)} & set(stored)  # it has none of them
    with pytest.raises(ValueError, match="--steps is not for a toy: leave it out"):
        plan_generate(dataclasses.replace(config, steps=7))


def test_what_needs_features_of_images_is_refused(toy: str, tmp_path: Path) -> None:
    for use in (
        lambda: read_trained_header(toy),
        lambda: ddpm_seg.load(toy),
        lambda: resident_extractor(load_bundle(toy), "cpu"),
        lambda: Segmenter(load_bundle(toy), device="cpu").segment(images(1, 16)),
        lambda: showcase(ShowcaseConfig(model=toy, images="x", training_images="x", output=str(tmp_path / "out"))),
    ):
        with pytest.raises(BundleError, match="a toy gives features only of the images that it draws"):
            use()
    with pytest.raises(ValueError, match="add --inception FILE, the TorchScript file of another network"):
        check_real("x", BUNDLE.network, None)
