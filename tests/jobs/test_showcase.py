"""The showcase job, on a tiny bundle."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.model.resident import resident_drawer
from ddpm_seg.pipeline.generate.config import GenerateConfig
from ddpm_seg.studies.showcase import draw
from jobs.showcase import main
from tests.tiny_bundle import tiny_bundle


def annotated(folder: Path, count: int, seed: int) -> str:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for index in range(count):
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(folder / f"{index}.png")
        np.save(folder / f"{index}.npy", rng.integers(0, 3, (16, 16), dtype=np.uint8))
    return str(folder)


def test_pictures_and_distances_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_bundle(tiny_bundle(), str(tmp_path / "bundle"))
    images, training = annotated(tmp_path / "images", 3, 0), annotated(tmp_path / "training", 5, 1)
    flags = {"model": tmp_path / "bundle", "images": images, "training-images": training, "output": tmp_path / "out"}
    assert main([part for name, value in flags.items() for part in (f"--{name}", str(value))]) == 0
    assert "nearest of 5 training images" in capsys.readouterr().out
    for name in ("labels.png", "samples.png", "neighbours.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert len(picture.convert("RGB").getcolors(10**7) or ()) > 20, name
    distances = json.loads((tmp_path / "out" / "distances.json").read_text())
    assert distances["samples"]["count"] == 25
    assert distances["unseen images"]["count"] == 3
    assert 0 < distances["samples"]["least"] <= distances["samples"]["median"] <= distances["samples"]["most"] <= 255


@pytest.mark.skipif(torch.cuda.is_available(), reason="compares bytes on a CPU")
def test_its_samples_are_those_that_generate_draws() -> None:
    bundle = tiny_bundle()
    # As `Draw`, with the options that jobs.generate has by default.
    sampling = GenerateConfig(model="m", output="o", num_samples=1).sampling()
    generated = [image for image, _ in resident_drawer(bundle, sampling, "cpu").draw(3, [0, 1])]
    assert np.array_equal(draw(bundle, 3)[:2], np.stack(generated))


def test_a_bundle_without_an_ensemble_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_bundle(dataclasses.replace(tiny_bundle(), members=(), features=None, task=None), str(tmp_path / "ddpm"))
    assert main(["--model", str(tmp_path / "ddpm"), "--images", "x", "--training-images", "x", "--output", "x"]) == 2
    assert "without an ensemble" in capsys.readouterr().err
