"""The published protocol on folders of the published layout, with a small network in place of the published files."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from ddpm_seg.model.bundle.ensemble_bundle import load_bundle
from ddpm_seg.model.published import style_encoders, swav, vdvae_flags
from ddpm_seg.studies.reproduce import reproduce
from ddpm_seg.studies.reproduce.published_scores import BENCHMARKS, Benchmark, NetworkName, published_score
from ddpm_seg.tasks import TASKS
from jobs.reproduce import main
from tests import published_samples
from tests.model import recorded_extractors, recorded_gans, recorded_vdvae_alae
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
    assert (row["network"], row["deviation"], row["not_run"]) == ("ddpm", None, None)
    assert f"| ddpm | horse_21 | 2 | {100 * row['miou']:.1f} | 65.0 ± 0.8 |" in capsys.readouterr().out
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

    assert main([*folders, "--task", "horse_21", "--members", "3"]) == 2
    assert f"was trained with members {len(bundle.members)}, expected 3" in capsys.readouterr().err

    assert main([*folders, "--task", "horse_21", f"--model-flags={FLAGS} --noise_schedule cosine"]) == 2
    assert "was converted with other --model-flags" in capsys.readouterr().err

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
        (["--task", "cat_15", "--network", "mae"], "lsun_horse.pth does not exist; cat_15 needs this checkpoint"),
        (
            ["--task", "cat_15", "--network", "dataset-gan"],
            "dataset-gan needs --synthetic, the folder of the",
        ),
        (
            ["--task", "cat_15", "--network", "dataset-gan", "--synthetic", "/nowhere"],
            "0 .npz files; dataset-gan",
        ),
        (["--task", "cat_15", "--datasets", "/nowhere"], "/nowhere/cat_15/real/train holds no annotated images"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_done(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert main([*folders, *flags]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def published_folders(folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Arguments for two splits of every network of the table but SwAVw2 and DatasetDDPM, in the published layout."""
    root = tmp_path / "checkpoints"
    for name in ("ddpm", "mae", "swav", "vdvae", "alae", "e4e"):
        (root / name).mkdir(parents=True)
    torch.save(unet_state(FLAGS), root / "ddpm" / "lsun_horse.pt")
    recorded_extractors.write_checkpoint(root / "mae" / "lsun_horse.pth", "mae64")
    recorded_extractors.write_checkpoint(root / "swav" / "lsun_horse.pth", "swav64")
    recorded_vdvae_alae.save(root / "vdvae" / "lsun_horse.th", recorded_vdvae_alae.state("vdvae32"))
    recorded_vdvae_alae.save_alae(root / "alae" / "lsun_horse.pth", recorded_vdvae_alae.state("alae128"))
    recorded_gans.written(root / "e4e" / "lsun_horse.pt", recorded_gans.inversion_checkpoint())
    monkeypatch.setitem(vdvae_flags._SETS, "small", {"width": "48", **recorded_vdvae_alae.VDVAE32_FLAGS})
    monkeypatch.setattr(swav, "IMAGE_SIZE", 64)
    monkeypatch.setattr(style_encoders, "IMAGE_SIZE", 64)
    samples = tmp_path / "synthetic" / "gan" / "horse_21" / "samples_64x64x3.npz"
    published_samples.write(samples, *published_samples.published(50, 64))
    kept = folders[: folders.index("--checkpoints")] + folders[folders.index("--checkpoints") + 2 :]
    kept[kept.index("--iterations") + 1] = "60"
    given = ["--checkpoints", str(root), "--synthetic", str(tmp_path / "synthetic"), "--epochs", "1"]
    return [*kept, *given, "--splits", "2"]


ROWS = ("ddpm", "mae", "swav", "vdvae", "alae", "gan-inversion", "gan-encoder", "dataset-gan")


@pytest.mark.slow
@pytest.mark.parametrize("network", ROWS)
def test_a_row_of_the_table(
    ray_cluster: str,
    published_folders: list[str],
    tmp_path: Path,
    network: NetworkName,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = [*published_folders, "--task", "horse_21", "--network", network, "swav-w2"]
    assert main(arguments) == 0
    rows = json.loads((tmp_path / "out" / "benchmarks.json").read_text())
    for row in rows:
        check_keys("benchmarks.json", row)
    assert [row["network"] for row in rows] == [network, "swav-w2"]
    scores = [split["miou"] for split in rows[0]["splits"]]
    assert len(scores) == 2
    assert rows[0]["miou"] == pytest.approx(statistics.fmean(scores))
    assert rows[0]["deviation"] == pytest.approx(statistics.stdev(scores))
    assert (rows[1]["miou"], rows[1]["splits"]) == (None, [])
    assert rows[1]["not_run"].endswith("swav_w2/lsun_horse.pth does not exist; horse_21 needs this checkpoint")
    published = published_score(network, "horse_21")
    own = f"{100 * rows[0]['miou']:.1f} ± {100 * rows[0]['deviation']:.1f}"
    paper = f"{100 * published[0]:.1f} ± {100 * published[1]:.1f}" if published else "–"
    printed = capsys.readouterr().out
    assert f"| {network} | horse_21 | 2 | {own} | {paper} |" in printed
    assert "| swav-w2 | horse_21 | – | not run | 54.0 ± 0.9 |" in printed

    models = sorted((tmp_path / "out" / "models").rglob("bundle.json"))
    written = [path.stat().st_mtime_ns for path in models]
    assert main(arguments) == 0  # nothing is trained again
    assert [path.stat().st_mtime_ns for path in models] == written
    assert json.loads((tmp_path / "out" / "benchmarks.json").read_text()) == rows


def test_the_published_figures() -> None:
    """As in the table of the published repository, whose empty cells are None here."""
    empty = {
        name: {task for task in BENCHMARKS if published_score(name, task) is None} for name in get_args(NetworkName)
    }
    assert {name: tasks for name, tasks in empty.items() if tasks} == {
        "vdvae": set(BENCHMARKS) - {"ffhq_34", "celeba_19"},
        "alae": {"cat_15", "horse_21"},
        "dataset-ddpm": {"celeba_19", "ade_bedroom_30"},
        "dataset-gan": {"celeba_19", "ade_bedroom_30"},
    }
    assert published_score("ddpm", "ffhq_34") == pytest.approx((0.591, 0.014))
    assert published_score("gan-inversion", "ade_bedroom_30") == pytest.approx((0.111, 0.002))
    assert published_score("mae", "horse_21") == pytest.approx((0.634, 0.014))


def test_every_published_task_is_a_benchmark() -> None:
    assert set(BENCHMARKS) == set(TASKS) - {"avatars_10"}


def test_too_few_images_are_refused(folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in (0, 1):
        (tmp_path / "datasets" / "cat_15" / "real" / "test" / f"{index}.png").unlink()
        (tmp_path / "datasets" / "cat_15" / "real" / "test" / f"{index}.npy").unlink()
    assert main([*folders, "--task", "cat_15"]) == 2
    assert "has 1 annotated images; the benchmark needs 2" in capsys.readouterr().err
