from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle, save_bundle
from ddpm_seg.model.networks.diffusion.unet import UNetConfig
from ddpm_seg.model.networks.mae import MAEConfig
from ddpm_seg.model.trained import load_model, resident
from ddpm_seg.tasks import TASKS
from ddpm_seg.training.ensemble.larger_input import at_side
from jobs.train import main
from tests.annotated_boxes import SIZE, annotate
from tests.tiny_bundle import tiny_bundle

TASK = TASKS["avatars_10"]


def train(model: Path, images: Path, output: Path, *more: str) -> int:
    named = ["--model", str(model), "--images", str(images), "--task", "avatars_10", "--output", str(output)]
    return main([*named, "--members", "1", "--iterations", "60", "--device", "cpu", *more])


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    return tmp_path / "model"


def test_a_bundle_of_another_side_works_wherever_a_bundle_does(model: Path, tmp_path: Path) -> None:
    images = annotate(tmp_path / "images", 4)
    assert train(model, images, tmp_path / "larger", "--image-size", "24", "--noise-draws", "2") == 0
    content = json.loads((tmp_path / "larger" / "bundle.json").read_text())
    assert (content["input_size"], content["features"]["noise_draws"]) == (24, 2)
    trained, before = load_bundle(str(tmp_path / "larger")), load_bundle(str(model))
    assert all(torch.equal(trained.weights[name], tensor) for name, tensor in before.weights.items())
    segmenter = resident(load_model(str(tmp_path / "larger")), device="cpu")
    shown = load_annotations(str(images), image_size=24, task=TASK)
    found = segmenter.segment(np.stack([one.image for one in shown]))
    right = np.mean([pixels.label == one.label for pixels, one in zip(found, shown, strict=True)])
    assert right > 0.8  # trained on them

    # Training goes on from it with what it has, and one noise is the default.
    assert train(tmp_path / "larger", images, tmp_path / "again") == 0
    assert load_bundle(str(tmp_path / "again")).features == trained.features
    assert train(tmp_path / "larger", images, tmp_path / "one", "--noise-draws", "1", "--image-size", str(SIZE)) == 0
    assert load_bundle(str(tmp_path / "one")).features == before.features


def test_attention_stays_on_its_levels_and_the_same_side_changes_nothing() -> None:
    bundle = tiny_bundle()
    assert at_side(bundle, SIZE) is bundle
    larger = at_side(bundle, 40)
    old, new = bundle.ddpm.unet, larger.ddpm.unet
    assert isinstance(old, UNetConfig)
    assert isinstance(new, UNetConfig)
    assert [new.has_attention(level) for level in range(2)] == [old.has_attention(level) for level in range(2)]
    assert larger.noise is not None
    assert larger.noise.shape == (1, 3, 40, 40)
    assert dataclasses.replace(new, image_size=16, attention_resolutions=(8,)) == old


def test_a_side_that_the_strides_do_not_divide_is_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(model, annotate(tmp_path / "images", 2), tmp_path / "out", "--image-size", "17") == 2
    assert "image_size 17 must be a multiple of 2" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("flag", "value"), [("--image-size", "32"), ("--noise-draws", "2")])
def test_networks_without_noise_are_refused(
    flag: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mae = MAEConfig(image_size=SIZE, patch_size=8, width=32, depth=2, num_heads=2)
    save_bundle(Bundle(network=mae, weights=mae.build().state_dict()), str(tmp_path / "mae"))
    assert train(tmp_path / "mae", annotate(tmp_path / "images", 2), tmp_path / "out", flag, value) == 2
    assert f"leave out {flag}" in capsys.readouterr().err
