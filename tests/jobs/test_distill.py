"""The distillation job end to end: samples in, a student out that the other jobs take."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchvision.models import mobilenet_v3_large, resnet50

import ddpm_seg
from ddpm_seg.commands.distill import describe
from ddpm_seg.model.bundle.student_bundle import load_student
from ddpm_seg.training.student import distill
from ddpm_seg.training.student.student_training import StudentTraining
from jobs import curate, evaluate
from jobs.distill import main
from tests.annotated_boxes import annotate
from tests.boxed_samples import publish_boxes

SMALL = ["--backbone", "mobilenet_v3_large", "--resolution", "32"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("samples")
    publish_boxes(output, 64)
    return output


@pytest.fixture(scope="module")
def annotated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return annotate(tmp_path_factory.mktemp("annotated") / "validation", 4, first=1000)


def run(samples: Path, output: Path, *more: str) -> int:
    return main(["--samples", str(samples), "--output", str(output), *SMALL, *more])


def test_an_epoch_without_a_labelled_pixel_has_no_loss_to_show() -> None:
    history = [{"loss": 0.5, "miou": None}, {"loss": None, "miou": None}]
    shown = describe(SimpleNamespace(provenance={"distillation": {"history": history}}, model_id="m"), "out")  # type: ignore[arg-type]
    assert shown.splitlines()[1:3] == ["    1  0.5000               –", "    2       –               –"]


def test_a_student_is_a_model_as_any_other(samples, annotated, tmp_path, ray_cluster, capsys) -> None:
    output = tmp_path / "student"
    # Two images a batch: many batches, which the running statistics of batch normalisation need.
    how = ["--resolution", "64", "--epochs", "2", "--batch-size", "2"]
    assert run(samples, output, "--validation", str(annotated), *how) == 0
    shown = capsys.readouterr().out
    assert sorted(path.name for path in output.iterdir()) == ["bundle.json", "student.safetensors"]
    how = json.loads((output / "bundle.json").read_text())["provenance"]["distillation"]
    assert (how["samples"]["count"], len(how["history"])) == (64, 2)
    best = max(epoch["miou"] for epoch in how["history"])
    assert f"{best:.4f}" in shown

    found = ddpm_seg.load(output)(str(annotated / "1000.png"))
    truth = np.load(annotated / "1000.npy")
    assert (found.mask == truth).mean() > 0.8  # better than one class everywhere
    assert 0 < found.statistics.mean_confidence <= 1

    scored = ["--model", str(output), "--images", str(annotated), "--output", str(tmp_path / "scores")]
    assert evaluate.main(scored) == 0
    metrics = json.loads((tmp_path / "scores/metrics.json").read_text())
    assert metrics["miou"] == pytest.approx(best, abs=1e-3)  # the epoch that was kept


def test_a_training_that_was_interrupted_goes_on(tmp_path, monkeypatch, capsys) -> None:
    samples = tmp_path / "samples"
    publish_boxes(samples, 24)
    assert run(samples, tmp_path / "whole", "--epochs", "2") == 0
    real, calls = StudentTraining.train_epoch, []

    def interrupted_once(self, *arguments):
        calls.append(len(self.epochs))
        if calls == [0, 1]:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(StudentTraining, "train_epoch", interrupted_once)
    assert run(samples, tmp_path / "twice", "--epochs", "2") == 4
    assert "run the same command again to continue" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "twice").iterdir()] == ["unfinished_training.pt"]
    assert run(samples, tmp_path / "twice", "--epochs", "2") == 0
    assert calls == [0, 1, 1]
    whole, twice = (load_student(str(tmp_path / name)).weights for name in ("whole", "twice"))
    assert all(torch.equal(twice[key], value) for key, value in whole.items())


def test_samples_that_change_under_way_are_not_trained_on(tmp_path, monkeypatch, capsys) -> None:
    samples = tmp_path / "samples"
    publish_boxes(samples, 24)
    begin = distill._train

    def curated_meanwhile(config, worker, *, settings):
        assert curate.main(["--samples", str(samples), "--drop-uncertain", "0.5"]) == 0
        begin(config, worker, settings=settings)

    monkeypatch.setattr(distill, "_train", curated_meanwhile)
    assert run(samples, tmp_path / "student", "--epochs", "1") == 2
    assert f"the samples at {samples} changed after this training began" in capsys.readouterr().err
    assert not list((tmp_path / "student").iterdir())


def test_annotated_images_instead_of_samples(samples, annotated, tmp_path, capsys) -> None:
    assert run(samples, tmp_path / "real", "--images", str(annotated), "--repeat", "4", "--epochs", "1") == 0
    how = load_student(str(tmp_path / "real")).provenance["distillation"]
    assert (how["images"], how["repeat"]) == (str(annotated), 4)
    assert "kept      epoch 1" in capsys.readouterr().out


def test_a_backbone_of_imagenet_is_begun_with(samples, tmp_path, capsys) -> None:
    torch.manual_seed(1)
    torch.save(mobilenet_v3_large(weights=None).state_dict(), tmp_path / "mobilenet.pth")
    torch.save(resnet50(weights=None).state_dict(), tmp_path / "resnet.pth")
    more = ["--epochs", "1", "--learning-rate", "1e-12"]
    assert run(samples, tmp_path / "a", *more, "--backbone-weights", str(tmp_path / "mobilenet.pth")) == 0
    first = torch.load(tmp_path / "mobilenet.pth")["features.0.0.weight"]
    torch.testing.assert_close(load_student(str(tmp_path / "a")).weights["backbone.0.0.weight"], first)
    assert run(samples, tmp_path / "b", *more, "--backbone-weights", str(tmp_path / "resnet.pth")) == 2
    assert "expected the weights of torchvision's mobilenet_v3_large" in capsys.readouterr().err


@pytest.mark.slow
def test_two_ray_train_workers(samples, annotated, tmp_path, ray_cluster) -> None:
    more = ["--epochs", "2", "--num-workers", "2", "--validation", str(annotated)]
    assert run(samples, tmp_path / "student", *more) == 0
    assert len(load_student(str(tmp_path / "student")).provenance["distillation"]["history"]) == 2
    assert sorted(path.name for path in (tmp_path / "student").iterdir()) == ["bundle.json", "student.safetensors"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--samples", "/nowhere"], "no samples table under /nowhere"),
        (["--validation", "/nowhere"], "/nowhere"),
        (["--num-workers", "5"], "num_workers is 5, expected 0 to 4: each worker needs two images of every batch of 8"),
        (["--resolution", "8"], "resolution is 8, expected at least the side of the images, 16"),
        (["--batch-size", "65"], "64 samples are fewer than a batch"),
        (["--repeat", "2"], "--repeat needs --images"),
        (["--epochs", "0"], "epochs must be positive"),
        (["--backbone-weights", __file__], "not a checkpoint"),
    ],
)
def test_wrong_use_is_one_message_and_trains_nothing(samples, tmp_path, capsys, more, message) -> None:
    try:
        status = run(samples, tmp_path / "student", *more)
    except SystemExit as stop:
        status = int(str(stop.code))
    assert status == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split())
    assert "Traceback" not in error
    assert not (tmp_path / "student").exists() or not any((tmp_path / "student").iterdir())


def test_samples_without_labels_are_refused(tmp_path, capsys) -> None:
    publish_boxes(tmp_path / "out", 8, labelled=False)
    assert run(tmp_path / "out", tmp_path / "student") == 2
    assert "have no labels: their model has no ensemble" in capsys.readouterr().err


def test_a_curve_has_a_student_for_each_number_of_samples(samples, annotated, tmp_path, capsys, monkeypatch) -> None:
    command = ["--num-samples", "32", "8", "--epochs", "1", "--batch-size", "4", "--validation", str(annotated)]
    assert run(samples, tmp_path / "curve", *command) == 0
    shown = capsys.readouterr().out
    rows = list(csv.DictReader((tmp_path / "curve" / "curve.csv").open()))
    assert [(row["samples"], row["epochs"]) for row in rows] == [("8", "4"), ("32", "1")]
    for row in rows:
        how = load_student(str(tmp_path / "curve" / f"samples-{row['samples']}")).provenance["distillation"]
        assert how["samples"]["count"] == int(row["samples"])
        assert max(epoch["miou"] for epoch in how["history"]) == float(row["miou"])
        assert f"{float(row['miou']):.4f}" in shown
    assert b"</svg>" in (tmp_path / "curve" / "curve.svg").read_bytes()

    monkeypatch.setattr(distill, "distill", None)  # what is there is not trained again
    assert run(samples, tmp_path / "curve", *command) == 0
    assert run(samples, tmp_path / "curve", *command, "--epochs", "2") == 2
    assert "expected 8" in capsys.readouterr().err
    for other, named in [(["--seed", "7"], "seed 0, expected 7"), (["--augment"], "augment False, expected True")]:
        assert run(samples, tmp_path / "curve", *command, *other) == 2
        assert named in capsys.readouterr().err
    assert run(samples, tmp_path / "curve", *command, "--architecture", "unet") == 2
    assert "has a student with student" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--num-samples", "8", "32"], "give it too"),
        (["--num-samples", "0"], "different numbers of at least 1"),
        (["--num-samples", "8", "--images", "i"], "leave out --labels and --images"),
        (["--num-samples", "65"], "but there are 64"),
    ],
)
def test_numbers_of_samples_that_cannot_be_are_refused(samples, tmp_path, capsys, flags, message) -> None:
    try:
        status: object = run(samples, tmp_path / "curve", *flags)
    except SystemExit as end:  # what the options themselves refuse
        status = end.code
    assert status == 2
    assert message in capsys.readouterr().err
