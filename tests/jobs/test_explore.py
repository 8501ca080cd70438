"""jobs.explore: images without annotations become masks of clusters that jobs.train takes."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.data.annotations.task_file import find_task
from ddpm_seg.evaluation.scores.miou import published_miou
from ddpm_seg.evaluation.scores.score import evaluate, labels_of
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, save_bundle
from ddpm_seg.model.segmenter import Segmenter
from jobs import explore, train
from tests.annotated_boxes import annotate
from tests.tiny_bundle import tiny_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of boxes, one of them wide, and a network without an ensemble."""
    for mask in annotate(tmp_path / "photos", 6).glob("*.npy"):
        mask.unlink()
    wide = np.full((8, 24, 3), 30, np.uint8)
    wide[2:6, 4:12] = 220
    Image.fromarray(wide).save(tmp_path / "photos" / "wide.png")
    (tmp_path / "photos" / "broken.png").write_bytes(b"no picture")
    save_bundle(dataclasses.replace(tiny_bundle(), members=(), task=None), str(tmp_path / "ddpm"))
    return tmp_path


def run(folder: Path, *more: str) -> int:
    named = ("--model", folder / "ddpm"), ("--images", folder / "photos"), ("--output", folder / "out")
    return explore.main([*(str(word) for pair in named for word in pair), "--clusters", "3", "--blocks", "1", *more])


def test_clusters_are_masks_to_train_on(
    folder: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert run(folder) == 0
    assert "cluster 2" in capsys.readouterr().out
    assert "broken.png is left out" in caplog.text
    out = folder / "out"
    assert not (out / "unfinished").exists()
    assert len(list((out / "masks").iterdir())) == len(list((out / "images").iterdir())) == 7
    rows = list(csv.DictReader((out / "clusters.csv").open()))
    assert sum(float(rows[0][f"cluster {number}"]) for number in range(3)) == pytest.approx(1, abs=0.001)
    by_name = {Path(row["uri"]).name: np.asarray(Image.open(out / "masks" / f"{row['name']}.png")) for row in rows}
    assert by_name["wide.png"].shape == (8, 24)
    assert "3.png" in (out / "explore.html").read_text()

    # The clusters as they are, then named: the box is what is bright.
    flags = ["--model", str(folder / "ddpm"), "--images", str(out), "--members", "1", "--iterations", "60"]
    assert train.main([*flags, "--task", str(out / "task.json"), "--output", str(folder / "clusters")]) == 0
    assert load_bundle(str(folder / "clusters")).task == find_task(str(out / "task.json"))
    bright, dark = [], []
    for number in range(3):
        own = [np.asarray(Image.open(row["uri"]))[by_name[Path(row["uri"]).name] == number] for row in rows]
        (bright if np.concatenate(own).mean() > 120 else dark).append(str(number))
    merge = f"{{background: {dark}, box: {bright}}}"
    (folder / "task.yaml").write_text(f"class_names: [background, box]\nmerge: {merge}\n")
    task = find_task(str(folder / "task.yaml"))
    assert train.main([*flags, "--task", str(folder / "task.yaml"), "--output", str(folder / "named")]) == 0
    annotate(folder / "truth", 4, first=20)
    truth = load_annotations(str(folder / "truth"), image_size=16, task=dataclasses.replace(task, merge=()))
    named = Segmenter(load_bundle(str(folder / "named")), device="cpu")
    assert published_miou(evaluate(labels_of(named), truth, task), None) > 0.6


def test_a_seed_chooses_the_images_and_what_is_there_is_not_replaced(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "photos" / "broken.png").unlink()
    assert run(folder, "--num-images", "3") == 0
    rows = list(csv.DictReader((folder / "out" / "clusters.csv").open()))
    assert len(rows) == 3
    masks = {path.name: path.read_bytes() for path in (folder / "out" / "masks").iterdir()}
    capsys.readouterr()
    assert run(folder, "--num-images", "3") == 2
    assert "give another --output" in capsys.readouterr().err
    (folder / "out" / "unfinished").mkdir()  # as if interrupted
    (folder / "out" / "unfinished" / "some.safetensors").write_bytes(b"")
    assert run(folder, "--num-images", "3") == 0
    assert {path.name: path.read_bytes() for path in (folder / "out" / "masks").iterdir()} == masks


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--clusters", "1"], "--clusters must be at least 2, got 1"),
        (["--clusters", "256"], "--clusters must be at most 255, got 256"),
        (["--blocks", "9"], "blocks must lie in 0..3"),
        (["--images", "{0}/none"], "none"),
        (["--model", "{0}/none"], "none"),
    ],
)
def test_wrong_use_is_one_message(
    folder: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    try:
        status: object = run(folder, *(flag.format(folder) for flag in flags))
    except SystemExit as end:  # what the options themselves refuse
        status = end.code
    assert status == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert not (folder / "out" / "masks").exists()
