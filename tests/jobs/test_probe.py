from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.evaluation.scores.miou import published_miou
from ddpm_seg.evaluation.scores.score import evaluate, labels_of
from ddpm_seg.model.bundle.ensemble_bundle import load_bundle, save_bundle
from ddpm_seg.model.features import FeatureConfig
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.studies.probe.config import ProbeConfig
from ddpm_seg.studies.probe.probe import run_probe, small_classes
from ddpm_seg.tasks import TASKS
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig
from ddpm_seg.training.ensemble.few_shot import train_bundle
from jobs.probe import main
from tests.annotated_boxes import SIZE, annotate
from tests.tiny_bundle import tiny_bundle

TASK = TASKS["avatars_10"]


@pytest.fixture
def config(tmp_path: Path) -> ProbeConfig:
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    for name, first in (("one", 0), ("two", 3), ("test", 6)):
        annotate(tmp_path / name, 3, first=first)
    return ProbeConfig(
        model=str(tmp_path / "model"),
        task="avatars_10",
        train=(str(tmp_path / "one"), str(tmp_path / "two")),
        test=str(tmp_path / "test"),
        output=str(tmp_path / "out"),
        steps=(10, 60),
        blocks=(0, 1),
        members=1,
        iterations=60,
    )


def test_a_cell_is_an_ensemble_on_that_step_and_block_alone(config: ProbeConfig) -> None:
    probe = run_probe(config)
    assert probe.places == [(10, 0), (10, 1), (60, 0), (60, 1)]
    assert config.test is not None
    bundle = load_bundle(config.model)
    train, test = (load_annotations(uri, image_size=SIZE, task=TASK) for uri in (config.train[0], config.test))
    for step, block in probe.places:
        trained = train_bundle(
            bundle,
            train,
            task=TASK,
            features=FeatureConfig(steps=(step or 0,), blocks=(block,)),
            training=EnsembleConfig(members=1, iterations=60),
        )
        alone = published_miou(evaluate(labels_of(Segmenter(trained, device="cpu")), test, TASK), None)
        assert probe.results[step, block][0].miou == pytest.approx(alone, abs=0.02)


def test_the_command_writes_table_and_figures_and_continues(
    config: ProbeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = (
        f"--model {config.model} --task avatars_10 --test {config.test} --output {config.output} --members 1".split()
    )
    flags += ["--iterations", "20", "--steps", "10", "60", "--blocks", "0", "1", "--train", *config.train]
    assert main(flags) == 0
    assert "best alone:" in capsys.readouterr().out
    out = tmp_path / "out"
    rows = list(csv.DictReader((out / "probe.csv").open()))
    assert [(row["step"], row["block"]) for row in rows] == [("10", "0"), ("10", "1"), ("60", "0"), ("60", "1")]
    assert Image.open(out / "probe.png").size[0] > 100
    assert b"</svg>" in (out / "probe.svg").read_bytes()
    assert not (out / "unfinished").exists()

    before = {path.name: path.stat().st_mtime_ns for path in out.glob("step-*.json")}
    assert len(before) == 8
    (out / "step-10-block-1-two.json").unlink()
    assert main(flags) == 0
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("step-*.json")}
    assert {name for name in after if after[name] != before[name]} == {"step-10-block-1-two.json"}
    assert list(csv.DictReader((out / "probe.csv").open())) == rows


def test_small_classes_cover_less_than_the_median(tmp_path: Path) -> None:
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[0, :2], mask[1, :5], mask[2] = 3, 4, 5
    Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", mask)
    annotations = load_annotations(str(tmp_path), image_size=SIZE, task=TASK)
    assert small_classes(annotations, TASK) == (TASK.class_names[3], TASK.class_names[4])


def test_an_unknown_block_is_refused_before_any_work(config: ProbeConfig, capsys: pytest.CaptureFixture[str]) -> None:
    flags = f"--model {config.model} --task avatars_10 --test {config.test} --output {config.output} --blocks 99"
    assert main([*flags.split(), "--train", config.train[0]]) == 2
    assert "99" in capsys.readouterr().err
