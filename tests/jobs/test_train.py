from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle, save_bundle
from ddpm_seg.model.diffusion import DiffusionConfig
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.networks.diffusion.ddpm import DDPMConfig
from ddpm_seg.model.networks.diffusion.unet import UNet, UNetConfig
from ddpm_seg.tasks import TASKS
from ddpm_seg.training.ensemble import ensemble_training
from ddpm_seg.training.ensemble.feature_files import FeatureExtractor
from ddpm_seg.training.ensemble.few_shot import choose_features
from ddpm_seg.training.ensemble.members import MemberStack
from jobs.train import main
from tests.annotated_boxes import SIZE, annotate

TINY = UNetConfig(
    image_size=SIZE, num_channels=32, num_res_blocks=1, channel_mult=(1, 1), attention_resolutions=(), num_heads=1
)


def ddpm_bundle(config: UNetConfig = TINY, *, timesteps: int = 1000, features: FeatureConfig | None = None) -> Bundle:
    torch.manual_seed(0)
    size = config.image_size
    return Bundle(
        network=DDPMConfig(unet=config, diffusion=DiffusionConfig(steps=timesteps)),
        weights=UNet(config).state_dict(),
        noise=torch.randn(1, 3, size, size),
        features=features,
        provenance={"origin": "random weights"},
    )


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("model") / "ddpm")
    save_bundle(ddpm_bundle(), path)
    return path


def arguments(ddpm: str, images: Path, output: Path, *more: str) -> list[str]:
    named = ["--model", ddpm, "--images", str(images), "--task", "avatars_10", "--output", str(output)]
    return [*named, "--steps", "10", "40", "--blocks", "1", "3", "--members", "3", "--device", "cpu", *more]


def test_trains_a_bundle_that_segments(ddpm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = annotate(tmp_path / "train", 4)
    held_out = annotate(tmp_path / "held_out", 3, first=100)
    output = tmp_path / "trained"
    assert main(arguments(ddpm, images, output, "--validation", str(held_out), "--iterations", "80")) == 0
    printed = capsys.readouterr().out
    assert "3 members trained on 4 images, 1024 labelled pixels" in printed
    bundle = load_bundle(str(output))
    assert bundle.task == TASKS["avatars_10"]
    assert bundle.features == FeatureConfig(steps=(10, 40), blocks=(1, 3))
    assert [len(member) for member in bundle.members] == [16, 16, 16]
    how = bundle.provenance["ensemble"]
    assert how["iterations"] == [80, 80, 80]
    assert (how["images"], how["training"]["seed"], len(how["final_loss"])) == (4, 0, 3)
    assert bundle.provenance["origin"] == "random weights"
    learnt = {Path(entry["uri"]).name: entry["digest"] for entry in bundle.provenance["learnt_from"]}
    annotations = load_annotations(str(images), image_size=SIZE, task=TASKS["avatars_10"])
    assert learnt == {Path(one.uri).name: one.digest for one in annotations}
    # Two of ten classes are shown, each nearly perfect; naming all pixels background would score 0.08.
    score = bundle.provenance["validation"]
    assert score["images"] == 3
    assert score["published_miou"] > 0.17
    assert f"mean IoU (published formula) on 3 validation images: {score['published_miou']:.4f}" in printed


def test_the_same_seed_gives_the_same_bundle(ddpm: str, tmp_path: Path) -> None:
    images = annotate(tmp_path / "train", 4)
    for name, seed in (("a", "3"), ("b", "3"), ("c", "4")):
        assert main(arguments(ddpm, images, tmp_path / name, "--iterations", "10", "--seed", seed)) == 0
    a, b, c = ((tmp_path / name / "ensemble.safetensors").read_bytes() for name in "abc")
    assert a == b != c
    assert (tmp_path / "a" / "bundle.json").read_bytes() == (tmp_path / "b" / "bundle.json").read_bytes()


@pytest.mark.parametrize("interrupted", ["extraction", "training"])
def test_an_interrupted_training_goes_on(
    ddpm: str, tmp_path: Path, interrupted: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = annotate(tmp_path / "train", 4)
    run = [*arguments(ddpm, images, tmp_path / "resumed"), "--iterations", "30"]
    written, write, steps, step = [], FeatureExtractor.write, 0, MemberStack.step

    def write_or_stop(self: FeatureExtractor, image: np.ndarray, uri: str) -> None:
        if interrupted == "extraction" and len(written) == 3:
            written.append("the last straw")
            raise KeyboardInterrupt
        write(self, image, uri)
        written.append(uri)

    def step_or_stop(self: MemberStack, *batch: Any) -> torch.Tensor:
        nonlocal steps
        steps += 1
        if interrupted == "training" and steps == 20:
            raise KeyboardInterrupt
        return step(self, *batch)

    monkeypatch.setattr(ensemble_training, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(FeatureExtractor, "write", write_or_stop)
    monkeypatch.setattr(MemberStack, "step", step_or_stop)
    assert main(run) == 4
    assert "interrupted; run the same command again to continue" in capsys.readouterr().err
    assert not (tmp_path / "resumed" / "bundle.json").exists()
    before = len(written)
    assert main(run) == 0
    assert before + len(written[before:]) == (5 if interrupted == "extraction" else 4)  # no image twice
    assert steps == (30 if interrupted == "extraction" else 31)  # no batch twice, but for the one broken off
    assert {path.name for path in (tmp_path / "resumed").iterdir() if path.is_file()} == {
        path.name for path in Path(ddpm).iterdir()
    } | {"ensemble.safetensors", "domain.safetensors"}
    assert not (tmp_path / "resumed" / "unfinished").exists()
    assert main([*arguments(ddpm, images, tmp_path / "whole"), "--iterations", "30"]) == 0
    whole, resumed = ((tmp_path / name / "ensemble.safetensors").read_bytes() for name in ("whole", "resumed"))
    assert whole == resumed


def test_copies_are_trained_on_where_asked_for(ddpm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, output = annotate(tmp_path / "train", 2), tmp_path / "trained"
    assert main(arguments(ddpm, images, output, "--iterations", "2", "--mirror", "--recolour", "2")) == 0
    assert "2 images and copies of them, 3072 labelled pixels" in capsys.readouterr().out
    how = load_bundle(str(output)).provenance["ensemble"]
    assert (how["images"], how["copies"]) == (2, {"mirror": True, "recolour": 2})


def test_the_published_recipe_can_be_had(ddpm: str, tmp_path: Path) -> None:
    images, output = annotate(tmp_path / "train", 1), tmp_path / "trained"
    assert main(arguments(ddpm, images, output, "--recipe", "published")) == 0
    how = load_bundle(str(output)).provenance["ensemble"]
    assert (how["training"]["batch_size"], how["training"]["standardize"]) == (64, False)
    epoch = SIZE * SIZE // 64
    assert all(4 * epoch + 50 < iterations <= 100 * epoch for iterations in how["iterations"])


def test_limit_takes_the_first_images(ddpm: str, tmp_path: Path) -> None:
    images = annotate(tmp_path / "train", 4)
    output = tmp_path / "trained"
    assert main(arguments(ddpm, images, output, "--iterations", "2", "--limit", "1")) == 0
    assert load_bundle(str(output)).provenance["ensemble"]["labelled_pixels"] == SIZE * SIZE


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["--task", "nothing"], "task 'nothing' is not known; expected one of"),
        (["--steps", "1000"], "steps must lie in 0..999"),
        (["--blocks", "4"], "blocks must lie in 0..3"),
        (["--members", "0"], "--members must be at least 1, got 0"),
        (["--model", "/nowhere"], "/nowhere"),
        (["--images", "{empty}"], "holds no annotated images"),
        (["--validation", "{empty}"], "holds no annotated images"),
        (["--limit", "0"], "--limit must be at least 1, got 0"),
        (["--recolour", "-1"], "--recolour must be at least 0, got -1"),
        (["--tune"], "leave out --steps and --blocks, or --tune"),
    ],
)
def test_mistakes_end_in_one_line_and_nothing_written(
    ddpm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: list[str], message: str
) -> None:
    images = annotate(tmp_path / "train", 1)
    empty = tmp_path / "empty"
    empty.mkdir()
    output = tmp_path / "trained"
    try:
        status: object = main(arguments(ddpm, images, output, *(value.format(empty=empty) for value in wrong)))
    except SystemExit as end:  # what the options themselves refuse
        status = end.code
    assert status == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert not [path for path in output.rglob("*") if path.is_file()]


def test_another_bundle_is_not_overwritten(ddpm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = annotate(tmp_path / "train", 1)
    assert main(arguments(ddpm, images, Path(ddpm))) == 2
    assert "a bundle exists at" in capsys.readouterr().err
    assert not load_bundle(ddpm).members


def test_default_features_are_the_published_ones_scaled_to_the_network() -> None:
    published = UNetConfig(
        image_size=64, num_channels=32, num_res_blocks=2, channel_mult=(1,) * 6, attention_resolutions=()
    )
    assert choose_features(ddpm_bundle(published)) == FeatureConfig(steps=(50, 150, 250), blocks=(5, 6, 7, 8, 12))
    small = choose_features(ddpm_bundle(timesteps=100))
    assert small == FeatureConfig(steps=(5, 15, 25), blocks=(1, 2))
    own = FeatureConfig(steps=(7,), blocks=(2,), upsample_mode="nearest")
    assert choose_features(ddpm_bundle(features=own)) == own
    assert choose_features(ddpm_bundle(features=own), steps=(9,)).steps == (9,)
