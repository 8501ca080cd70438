"""Parts of one ensemble: each is scored as a model with these classifiers alone would be."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.evaluation.scores.miou import published_miou
from ddpm_seg.evaluation.scores.score import evaluate, labels_of
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, save_bundle
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.studies.members import parts
from ddpm_seg.tasks import TASKS
from jobs import train
from jobs.evaluate import main
from tests.annotated_boxes import SIZE, annotate
from tests.schema_reference import check_keys
from tests.tiny_bundle import tiny_bundle

TASK = TASKS["avatars_10"]


def test_no_classifier_is_in_two_ensembles() -> None:
    assert parts(10, 5) == [range(5), range(5, 10)]
    assert parts(10, 3) == [range(3), range(3, 6), range(6, 9)]
    assert len(parts(10, 1)) == 10
    assert parts(10, 10) == [range(10)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_bundle(dataclasses.replace(tiny_bundle(), members=(), task=None), str(tmp_path / "ddpm"))
    annotate(tmp_path / "train", 4)
    annotate(tmp_path / "test", 3, first=10)
    flags = ["--model", str(tmp_path / "ddpm"), "--images", str(tmp_path / "train"), "--task", "avatars_10"]
    assert train.main([*flags, "--members", "4", "--iterations", "15", "--output", str(tmp_path / "model")]) == 0
    return tmp_path


def test_each_part_is_scored_as_a_model_of_its_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--model", str(folder / "model"), "--images", str(folder / "test"), "--output", str(folder / "out")]
    assert main([*flags, "--members", "1", "2", "4"]) == 0
    shown = capsys.readouterr().out
    found = json.loads((folder / "out" / "metrics.json").read_text())
    check_keys("metrics.json of members", found)
    assert [(point["members"], point["ensembles"]) for point in found["members"]] == [(1, 4), (2, 2), (4, 1)]
    bundle, test = (
        load_bundle(str(folder / "model")),
        load_annotations(str(folder / "test"), image_size=SIZE, task=TASK),
    )
    for point in found["members"]:
        scores = []
        for part in parts(4, point["members"]):
            alone = dataclasses.replace(bundle, members=tuple(bundle.members[i] for i in part), calibration=None)
            scores.append(published_miou(evaluate(labels_of(Segmenter(alone, device="cpu")), test, TASK), None))
        assert point["miou"] == pytest.approx(np.mean(scores), abs=0.005)  # features are kept in float16
        assert f"{point['miou']:.4f}" in shown
    assert found["members"][2]["deviation"] is None
    assert [row["members"] for row in csv.DictReader((folder / "out" / "members.csv").open())] == ["1", "2", "4"]
    assert (folder / "out" / "members.png").exists()
    assert not (folder / "out" / "unfinished").exists()

    assert main([*flags, "--members", "5"]) == 2
    assert "has 4" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--members", "0"], ["--members", "1", "--splits", "2"], ["--baselines", "rgb"]])
def test_what_does_not_go_together_is_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--images", "i", "--output", "o", *flags])
    assert end.value.code == 2
    assert flags[0] in capsys.readouterr().err
