from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.annotations.load import load_annotations
from ddpm_seg.evaluation.scores.miou import published_miou
from ddpm_seg.evaluation.scores.score import evaluate, labels_of
from ddpm_seg.model.bundle.ensemble_bundle import Bundle, load_bundle, save_bundle
from ddpm_seg.model.resident import resident_extractor
from ddpm_seg.model.segmenter import Segmenter
from ddpm_seg.studies.corruptions import labellers
from ddpm_seg.studies.corruptions.cells import Cell, Corruption, corrupted
from ddpm_seg.studies.corruptions.config import CorruptionsConfig
from ddpm_seg.studies.corruptions.corruptions import run_corruptions
from ddpm_seg.studies.corruptions.table import as_markdown, scores_of, summaries_of
from ddpm_seg.tasks import TASKS
from ddpm_seg.training.ensemble.ensemble_training import EnsembleConfig
from ddpm_seg.training.ensemble.few_shot import train_bundle
from ddpm_seg.training.rivals.supervised import SupervisedConfig
from jobs.corruptions import main
from tests.annotated_boxes import SIZE, annotate
from tests.model.tiny_networks import TINY_MAE
from tests.tiny_bundle import tiny_bundle

TASK = TASKS["avatars_10"]
SHORT_UNET = SupervisedConfig(width=4, levels=2)


@pytest.fixture
def config(tmp_path: Path) -> CorruptionsConfig:
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    for name, first in (("one", 0), ("two", 3), ("test", 6), ("elsewhere", 12)):
        annotate(tmp_path / name, 4 if name == "test" else 3, first=first)
    return CorruptionsConfig(
        model=(str(tmp_path / "model"),),
        supervised=True,
        task="avatars_10",
        train=(str(tmp_path / "one"), str(tmp_path / "two")),
        test=str(tmp_path / "test"),
        others=(str(tmp_path / "elsewhere"),),
        output=str(tmp_path / "out"),
        kinds=("impulse_noise", "elastic_transform"),
        severities=(1, 5),
        members=1,
        iterations=40,
    )


def flags(config: CorruptionsConfig) -> list[str]:
    text = f"--task avatars_10 --test {config.test} --output {config.output} --members 1 --iterations 40 --train"
    return ["--model", *config.model, *text.split(), *config.train]


def test_every_cell_is_what_that_splits_model_scores_on_those_images(config: CorruptionsConfig) -> None:
    cells = run_corruptions(config, supervised=SHORT_UNET)
    columns = [("clean", 0), ("elsewhere", 0)] + [(kind, level) for kind in config.chosen_kinds for level in (1, 5)]
    assert [(cell.model, cell.kind, cell.severity) for cell in cells] == [
        (model, *column) for model in ("model", "supervised") for column in columns
    ]
    bundle = load_bundle(config.model[0])
    train, test, elsewhere = (
        load_annotations(str(Path(config.output).parent / name), image_size=SIZE, task=TASK)
        for name in ("two", "test", "elsewhere")
    )
    assert bundle.features is not None
    training = EnsembleConfig(members=1, iterations=40)
    trained = train_bundle(bundle, train, task=TASK, features=bundle.features, training=training)
    segmenter = Segmenter(trained, device="cpu")
    for cell in cells[: len(columns)]:
        images = elsewhere if cell.kind == "elsewhere" else test
        shown = [corrupted(one, Corruption(kind=cell.kind, severity=cell.severity)) for one in images]
        alone = published_miou(evaluate(labels_of(segmenter), shown, TASK), None)
        assert cell.splits[1].split == "two"
        assert cell.splits[1].miou == pytest.approx(alone, abs=1e-3)
        distances = [float(one.domain_distance or 0) for one in segmenter.segment(np.stack([i.image for i in shown]))]
        assert cell.splits[1].domain_distance == pytest.approx(np.mean(distances), rel=1e-3)
    assert all(split.domain_distance is None for cell in cells[len(columns) :] for split in cell.splits)


def test_an_image_passes_through_a_network_once_whatever_the_number_of_splits(
    config: CorruptionsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def counted(*arguments: Any) -> Any:
        extract = resident_extractor(*arguments)

        def extracted(images: Any, *rest: Any, **options: Any) -> Any:
            seen.append(len(images))
            return extract(images, *rest, **options)

        return extracted

    monkeypatch.setattr(labellers, "resident_extractor", counted)
    cells = run_corruptions(dataclasses.replace(config, supervised=False))
    assert sum(seen) == 5 * 4 + 3  # clean and four corruptions of the test images, and the other set
    assert [len(cell.splits) for cell in cells] == [2] * len(cells)
    assert len({split.miou for cell in cells for split in cell.splits}) > 2


def test_an_interrupted_study_goes_on_and_nothing_is_done_twice(config: CorruptionsConfig) -> None:
    def files() -> dict[str, int]:
        return {str(path): path.stat().st_mtime_ns for path in Path(config.output).rglob("*") if path.is_file()}

    def as_read(cells: list[Cell]) -> list[Any]:
        return [dataclasses.asdict(cell) for cell in cells]

    first = run_corruptions(config, supervised=SHORT_UNET)
    before = files()
    lost = Path(config.output) / "supervised" / "impulse_noise-5.json"
    lost.unlink()
    assert as_read(run_corruptions(config, supervised=SHORT_UNET)) == as_read(first)
    after = files()
    assert {path for path in after if after[path] != before.get(path)} == {str(lost)}

    more = dataclasses.replace(config, severities=(1, 3, 5))  # keeps what is there
    assert len(run_corruptions(more, supervised=SHORT_UNET)) == len(first) + 4
    assert {path: time for path, time in files().items() if path in after} == after

    other = dataclasses.replace(config, iterations=20, supervised=False)
    assert run_corruptions(other)[0].settings["ensemble"]["iterations"] == 20
    lost.write_text("{}")
    with pytest.raises(ValueError, match=r"impulse_noise-5.json is not a result of ddpm-seg corruptions"):
        run_corruptions(config, supervised=SHORT_UNET)


def test_actors_find_the_same(config: CorruptionsConfig, ray_cluster: str) -> None:
    short = dataclasses.replace(config, severities=(5,), others=())
    here = run_corruptions(short, supervised=SHORT_UNET)
    for path in Path(config.output).rglob("*-5.json"):
        path.unlink()
    assert run_corruptions(dataclasses.replace(short, num_actors=2), supervised=SHORT_UNET) == here

    other = dataclasses.replace(short, num_actors=3, output=f"{config.output}-other")
    with pytest.raises(ValueError, match="room for 2 actors"):
        run_corruptions(other, supervised=SHORT_UNET)
    assert not list(Path(other.output).rglob("model-*"))  # refused before it trained anything


def test_the_command_writes_table_and_figures(
    config: CorruptionsConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main([*flags(config), "--kinds", "fog", "contrast", "--severities", "2", "4"]) == 0
    assert "rank correlation" in capsys.readouterr().out
    rows = list(csv.DictReader((out / "corruptions.csv").open()))
    assert [(row["kind"], row["severity"]) for row in rows] == [
        ("clean", "0"), ("fog", "2"), ("fog", "4"), ("contrast", "2"), ("contrast", "4")
    ]  # fmt: skip
    cell = json.loads((out / "model" / "fog-4.json").read_text())
    assert float(rows[2]["miou"]) == pytest.approx(np.mean([one["miou"] for one in cell["splits"]]))
    clean = json.loads((out / "model" / "clean-0.json").read_text())
    drops = [1 - a["miou"] / b["miou"] for a, b in zip(cell["splits"], clean["splits"], strict=True)]
    assert float(rows[2]["relative_drop"]) == pytest.approx(np.mean(drops))
    assert float(rows[0]["relative_drop"]) == 0
    for name in ("corruptions", "distance"):
        assert Image.open(out / f"{name}.png").size[0] > 100
        assert b"</svg>" in (out / f"{name}.svg").read_bytes()
    assert "| fog |" in (out / "corruptions.md").read_text()


def test_networks_of_any_kind_and_side_share_a_table(config: CorruptionsConfig, tmp_path: Path) -> None:
    save_bundle(Bundle(network=TINY_MAE, weights=TINY_MAE.build().state_dict()), str(tmp_path / "mae"))
    several = dataclasses.replace(config, model=(*config.model, str(tmp_path / "mae")), supervised=False, iterations=10)
    cells = run_corruptions(dataclasses.replace(several, kinds=("fog",), severities=(3,), others=()))
    assert [(cell.model, cell.kind) for cell in cells] == [
        (model, kind) for model in ("model", "mae") for kind in ("clean", "fog")
    ]
    assert all(split.domain_distance is not None for cell in cells for split in cell.splits)
    first, *rows = as_markdown(scores_of(cells), summaries_of(cells)).splitlines()
    assert first == "| mean IoU (change) | model | mae |"
    assert rows[1].count("distance") == 2


def test_a_shift_alone_needs_no_corruption(config: CorruptionsConfig, tmp_path: Path) -> None:
    assert main([*flags(config), "--others", *config.others]) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "corruptions.csv").open()))
    assert [(row["kind"], row["severity"]) for row in rows] == [("clean", "0"), ("elsewhere", "0")]
    assert float(rows[1]["domain_distance"]) > 0
    assert not (tmp_path / "out" / "corruptions.png").exists()


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (["--severities", "0", "3"], "--severities must lie in 1..5, got 0"),
        (["--kinds", "rain"], "rain"),
        (["--model", "a/x", "b/x"], "--model: 'x' names another row already"),
        (["--others", "clean"], "--others: 'clean' names another row already"),
        (["--limit", "0"], "--limit"),
    ],
)
def test_mistakes_end_in_one_line(
    config: CorruptionsConfig, wrong: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main([*flags(config), *wrong])
    except SystemExit as stopped:
        status = stopped.code  # type: ignore[assignment]
    assert status == 2
    assert named in capsys.readouterr().err
    assert not Path(config.output).exists()
