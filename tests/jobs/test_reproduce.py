"""The published protocol on folders of the published layout, with a small network in place of the published files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_seg.model.bundle.ensemble_bundle import load_bundle
from ddpm_seg.studies import reproduce
from ddpm_seg.studies.reproduce_config import BENCHMARKS, Benchmark
from ddpm_seg.tasks import TASKS
from jobs.reproduce import main
from tests.model.published.published_files import unet_state
from tests.schema_reference import check_keys

# As deep as the published network, so that its blocks are there.
FLAGS = (
    "--image_size 64 --num_channels 32 --num_res_blocks 2 --channel_mult 1,1,1,1,1,1 --attention_resolutions 8 "
    "--learn_sigma True"
)
NAMES = ("horse_21", "cat_15")


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments that name published folders with three images for every two that are taken."""
    small = Benchmark(checkpoint="lsun_horse.pt", training_images=2, testing_images=2, miou=65.0, deviation=0.8)
    for name in NAMES:
        monkeypatch.setitem(reproduce.BENCHMARKS, name, small)
    (tmp_path / "ddpm").mkdir()
    torch.save(unet_state(FLAGS), tmp_path / "ddpm" / "lsun_horse.pt")
    rng = np.random.default_rng(0)
    for name in NAMES:
        for part in ("train", "test"):
            folder = tmp_path / "datasets" / name / "real" / part
            folder.mkdir(parents=True)
            for index in range(3):
                mask = np.full((64, 64), 255, np.int64)  # a band without a class, as published masks have
                mask[:28], mask[28:56] = 0, index + 1
                image = rng.integers(0, 40, (64, 64, 3)) + np.where(mask == 0, 0, 160)[..., None]
                Image.fromarray(image.astype(np.uint8)).save(folder / f"{index}.png")
                np.save(folder / f"{index}.npy", mask)
    named = {"datasets": "datasets", "checkpoints": "ddpm", "output": "out"}
    given = [word for flag, path in named.items() for word in (f"--{flag}", str(tmp_path / path))]
    return [*given, "--members", "2", "--iterations", "300", f"--model-flags={FLAGS}"]


def test_one_command_a_cell_and_a_second_one_goes_on(
    ray_cluster: str, folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*folders, "--task", "horse_21"]) == 0
    (row,) = json.loads((tmp_path / "out" / "benchmarks.json").read_text())
    check_keys("benchmarks.json", row)
    assert f"| horse_21 | 2 | {100 * row['miou']:.1f} | 65.0 ± 0.8 |" in capsys.readouterr().out
    bundle = load_bundle(str(tmp_path / "out" / "models" / "horse_21"))
    assert bundle.features is not None
    assert (bundle.features.steps, bundle.features.blocks) == ((50, 150, 250), (5, 6, 7, 8, 12))
    assert bundle.task == TASKS["horse_21"]
    how = bundle.provenance["ensemble"]
    assert (how["images"], how["training"]["batch_size"], how["copies"]["mirror"]) == (2, 64, False)
    metrics = json.loads((tmp_path / "out" / "horse_21" / "metrics.json").read_text())
    assert (metrics["miou"], metrics["model_id"]) == (row["miou"], row["model_id"])
    assert metrics["images"] == 2
    # Dark is background; of 21 classes three are shown, and the others score 0 by the published formula.
    assert metrics["classes"][0]["usual_iou"] > 0.8

    written = (tmp_path / "out" / "models" / "horse_21" / "bundle.json").stat().st_mtime_ns
    assert main([*folders, "--task", *NAMES]) == 0
    assert (tmp_path / "out" / "models" / "horse_21" / "bundle.json").stat().st_mtime_ns == written
    assert [one["task"] for one in json.loads((tmp_path / "out" / "benchmarks.json").read_text())] == list(NAMES)
    assert len(list((tmp_path / "out" / "models").glob("ddpm-*"))) == 1  # one network for both


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give either --task with some of bedroom_28, "),
        (["--all", "--task", "cat_15"], "or --all for all six"),
        (["--task", "avatars_10"], "'avatars_10' is not a published benchmark"),
        (["--task", "ffhq_34"], "ffhq.pt does not exist; ffhq_34 needs this checkpoint"),
        (["--all"], "lsun_bedroom.pt does not exist"),
        (["--task", "cat_15", "--datasets", "/nowhere"], "/nowhere/cat_15/real/train holds no annotated images"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_done(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert main([*folders, *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_published_task_is_a_benchmark() -> None:
    assert set(BENCHMARKS) == set(TASKS) - {"avatars_10"}


def test_too_few_images_are_refused(folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in (0, 1):
        (tmp_path / "datasets" / "cat_15" / "real" / "test" / f"{index}.png").unlink()
        (tmp_path / "datasets" / "cat_15" / "real" / "test" / f"{index}.npy").unlink()
    assert main([*folders, "--task", "cat_15"]) == 2
    assert "has 1 annotated images; the benchmark needs 2" in capsys.readouterr().err
