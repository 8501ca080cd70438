from __future__ import annotations

import csv
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import ddpm_seg
from ddpm_seg.evaluation.scores.miou import confusion_matrix, published_miou
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, save_bundle
from ddpm_seg.studies import few_shot_splits
from jobs import train
from jobs.evaluate import main
from tests.annotated_boxes import annotate
from tests.model.tiny_networks import TINY_SWAV, backbone_bundle
from tests.schema_reference import check_keys
from tests.tiny_bundle import TASK, tiny_bundle

SIZES = [(16, 16), (40, 40), (30, 20), (16, 16)]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A model, and images that are annotated with what it says of them, but for some rows."""
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    (tmp_path / "annotated").mkdir()
    segment = ddpm_seg.load(str(tmp_path / "model"))
    rng = np.random.default_rng(0)
    for index, (height, width) in enumerate(SIZES):
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        (labelled,) = segment([image])
        mask = labelled.mask.copy()
        mask[: 2 * index] = TASK.num_classes - 1
        mask[-3:] = 255
        Image.fromarray(image).save(tmp_path / "annotated" / f"{index}.png")
        np.save(tmp_path / "annotated" / f"{index}.npy", mask)
    return tmp_path


def arguments(folders: Path, output: str, *more: str) -> list[str]:
    named = ("--model", "model"), ("--images", "annotated"), ("--output", output)
    return [*(word for flag, folder in named for word in (flag, str(folders / folder))), *more]


def test_labels_and_scores_and_scores_labels_that_are_there(
    ray_cluster: str, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "jobs.evaluate", *arguments(folders, "out")]
    ended = subprocess.run(
        command, env={**os.environ, "RAY_ADDRESS": ray_cluster}, capture_output=True, text=True, timeout=200
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads((folders / "out" / "metrics.json").read_text())
    check_keys("metrics.json", found)
    assert next(iter(found)) == "miou"
    assert f"mean IoU        {found['miou']:.4f} by the published formula" in ended.stdout
    assert found["images"] == 4
    images = pq.read_table(folders / "out" / "images.parquet").to_pylist()
    assert [Path(row["uri"]).name for row in images] == [f"{index}.png" for index in range(4)]
    # The first image's annotation is the prediction itself, but for the rows without a class.
    assert images[0]["wrong"] == 0
    assert images[0]["pixels"] == 16 * 13
    assert all(row["wrong"] for row in images[1:])
    assert found["pixel_accuracy"] == pytest.approx(
        1 - sum(row["wrong"] for row in images) / sum(row["pixels"] for row in images)
    )
    page = (folders / "out" / "evaluation.html").read_text()
    assert page.index("3.png</bdi>") < page.index("0.png</bdi>")  # the worst first

    # Again, over the labels that are there: no cluster, the same scores.
    assert main(arguments(folders, "again", "--labels", str(folders / "out"))) == 0
    again = json.loads((folders / "again" / "metrics.json").read_text())
    assert again == found
    assert "4, " in capsys.readouterr().out


def test_scores_equal_those_of_the_masks_in_memory(ray_cluster: str, folders: Path) -> None:
    """For images of the network's own size, where nothing is resized."""
    for index in (1, 2):
        for suffix in ("png", "npy"):
            (folders / "annotated" / f"{index}.{suffix}").unlink()
    assert main(arguments(folders, "out")) == 0
    segment = ddpm_seg.load(str(folders / "model"))
    total = np.zeros((TASK.num_classes + 1, TASK.num_classes + 1), np.int64)
    for index in (0, 3):
        image = np.asarray(Image.open(folders / "annotated" / f"{index}.png"))
        target = np.load(folders / "annotated" / f"{index}.npy")
        total += confusion_matrix(segment([image])[0].mask, target, TASK.num_classes)
    found = json.loads((folders / "out" / "metrics.json").read_text())
    assert found["confusion"] == total.tolist()
    assert found["miou"] == published_miou(total, TASK.ignore_label)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--images", "{0}/none"], "holds no annotated images"),
        (["--model", "{0}/none"], "none"),
        (["--labels", "{0}/none"], "no labels table under"),
        (["--limit", "0"], "--limit must be at least 1, got 0"),
        (["--splits", "2", "--shots", "4"], "expected at least one split of 1 to 3 of the 4 annotated images"),
        (["--splits", "2", "--labels", "{0}"], "it cannot use --labels"),
        (["--splits", "2", "--dtype", "int8", "--model", "{0}/swav"], "int8"),
        (["--labels", "{0}", "--average", "mirror"], "--labels scores masks as they are: leave out --average"),
        (["--labels-of", "{0}", "--dtype", "bfloat16"], "--labels-of compares two annotators: leave out --dtype"),
        (["--members", "1", "--num-actors", "2"], "in this process: leave out --num-actors"),
        (["--shots", "5", "10"], "--shots 5 10 needs --splits"),
        (["--config-hash", "0123456789abcdef"], "give --labels, or leave it out"),
    ],
)
def test_wrong_use_is_one_message_and_status_2(
    folders: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    save_bundle(backbone_bundle(TINY_SWAV), str(folders / "swav"))
    try:
        status: object = main(arguments(folders, "out", *(flag.format(folders) for flag in flags)))
    except SystemExit as end:  # what the options themselves refuse
        status = end.code
    assert status == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert not (folders / "out" / "metrics.json").exists()


def test_labels_of_another_model_are_refused(
    ray_cluster: str, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(folders, "out", "--limit", "1")) == 0
    save_bundle(tiny_bundle(seed=1), str(folders / "other"))
    status = main(arguments(folders, "again", "--labels", str(folders / "out"), "--model", str(folders / "other")))
    assert status == 2
    assert "give the --model that made them" in capsys.readouterr().err
    # Nor are labels that lack an annotated image.
    assert main(arguments(folders, "again", "--labels", str(folders / "out"))) == 2
    assert "3 of 4 annotated images have no mask in the labels" in capsys.readouterr().err
    # Nor a mask of an image that another one has replaced.
    Image.new("RGB", SIZES[0][::-1]).save(folders / "annotated" / "0.png")
    assert main(arguments(folders, "again", "--labels", str(folders / "out"), "--limit", "1")) == 2
    assert "1 of 1 annotated images have been replaced since they were labelled" in capsys.readouterr().err


def test_splits_train_as_the_model_was_trained_and_score_what_is_left(
    ray_cluster: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = annotate(tmp_path / "annotated", 6)
    save_bundle(dataclasses.replace(tiny_bundle(), members=(), task=None), str(tmp_path / "ddpm"))
    named = ["--images", str(images), "--output"]
    how = ["--task", "avatars_10", "--members", "2", "--iterations", "60", "--mirror"]
    assert train.main(["--model", str(tmp_path / "ddpm"), *how, *named, str(tmp_path / "model")]) == 0
    capsys.readouterr()
    # A curve of the model and of simpler methods.
    splits = ["--model", str(tmp_path / "model"), "--splits", "2", *named]
    assert main([*splits, str(tmp_path / "curve"), "--shots", "2", "4", "--baselines", "rgb", "untrained"]) == 0
    shown = capsys.readouterr().out
    curves = json.loads((tmp_path / "curve" / "metrics.json").read_text())
    check_keys("metrics.json of a curve", curves)
    few, many = curves["curve"]
    assert (few["shots"], many["shots"]) == (2, 4)
    assert f"{few['miou']:.4f} ±" in shown
    rows = list(csv.DictReader((tmp_path / "curve" / "curve.csv").open()))
    methods = ["this model", "RGB + coordinates", "untrained UNet"]
    assert [(row["method"], row["shots"]) for row in rows] == [(name, n) for name in methods for n in ("2", "4")]
    assert [point["miou"] for point in curves["baselines"][0]["curve"]] == [float(row["miou"]) for row in rows[2:4]]
    assert {one["class_name"] for one in curves["expected_gains"]} == {"background", "skin"}  # those that are annotated
    assert curves["advice"] in shown
    assert curves["advice"].split(":")[0] in (tmp_path / "curve" / "evaluation.html").read_text()
    assert (tmp_path / "curve" / "curve.png").stat().st_size > 1000

    # Its largest number of images alone has the same splits: nothing is trained a second time.
    monkeypatch.setattr(few_shot_splits, "train_bundle", None)
    out = tmp_path / "curve" / "shots-4"
    before = json.loads((out / "metrics.json").read_text())
    assert main([*splits, str(out), "--shots", "4"]) == 0
    shown = capsys.readouterr().out
    found = json.loads((out / "metrics.json").read_text())
    assert found == before
    check_keys("metrics.json of splits", found)
    scores = [row["miou"] for row in found["splits"]]
    assert found["miou"] == pytest.approx(np.mean(scores)) == many["miou"]
    assert found["deviation"] == pytest.approx(np.std(scores, ddof=1))
    assert f"mean IoU        {found['miou']:.4f} ± {found['deviation']:.4f}" in shown
    # Two of ten classes are shown; naming all pixels background would score 0.08.
    assert all(score > 0.15 for score in scores)
    for name in ("split-1", "split-2"):
        (own,) = (path for path in (out / name).iterdir() if path.is_dir())
        trained = load_bundle(str(own / "model")).provenance["ensemble"]
        assert (trained["images"], trained["iterations"], trained["copies"]["mirror"]) == (4, [60, 60], True)
        assert json.loads((own / "metrics.json").read_text())["images"] == 2
        assert not (own / "unfinished").exists()
