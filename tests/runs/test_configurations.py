"""Outputs with labels or samples of several models: one is chosen, and the choice is reported."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

import ddpm_seg
from ddpm_seg import storage
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.evaluation.tables.curation import CurateConfig, curate, read_samples
from ddpm_seg.runs.ledger import find_runs
from ddpm_seg.runs.view import choose, read_labels
from ddpm_seg.training.student.sample_stream import SampleStream
from jobs import changes, compact, export
from jobs.curate import main as curate_main
from tests.boxed_samples import publish_boxes
from tests.runs.nightly_runs import labelled, night
from tests.tiny_bundle import TASK


@pytest.fixture
def output(tmp_path: Path) -> str:
    """Twenty images that "old" labelled, ten of them that "middle" did, and five that "new" did, in this order."""
    mask = {"bytes": encode_png(np.zeros((10, 10), np.uint8)), "path": None}
    for number, (config, count) in enumerate({"old": 20, "middle": 10, "new": 5}.items(), start=1):
        images = {f"{i:02}.png": {**labelled(number, **{TASK.class_names[1]: 0.5}), "mask": mask} for i in range(count)}
        night(tmp_path / "out", number, images, config_hash=config, model_id=f"model of {config}")
    return str(tmp_path / "out")


def test_reading_says_which_and_what_else_there_is(output: str, caplog: pytest.LogCaptureFixture) -> None:
    assert ddpm_seg.read_labels(output).num_rows == 5
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    said = warning.getMessage()
    assert output in said
    assert "has labels of 3 configurations; using new, that of the newest run; the others: middle, old" in said
    caplog.clear()
    assert [read_labels(output, config_hash=one).num_rows for one in ("old", "middle", "new")] == [20, 10, 5]
    assert not caplog.records
    with pytest.raises(FileNotFoundError, match="of configuration other; it has those of new, middle, old"):
        read_labels(output, config_hash="other")


def test_one_configuration_needs_no_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    night(tmp_path, 1, {"a.png": labelled(1)})
    assert read_labels(str(tmp_path)).num_rows == 1
    assert not caplog.records
    assert str(choose(str(tmp_path), "labels", None)) == "c, the only one"


@pytest.mark.parametrize("columns", [["uncertanity"], ["uri", "uncertanity"]])
def test_an_unknown_column_is_an_error_that_names_the_known_ones(columns: list[str], output: str) -> None:
    with pytest.raises(
        ValueError, match=r"no column 'uncertanity' \(did you mean 'uncertainty'\?\); it has image_id, uri"
    ):
        read_labels(output, config_hash="new", columns=columns)


def test_compacting_keeps_all(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    new = f"{output}-compacted"
    before = {one: read_labels(output, config_hash=one) for one in ("old", "middle", "new")}
    assert compact.main([f"--labels={output}", f"--output={new}"]) == 0
    said = capsys.readouterr().out
    assert "35 rows -> " in said
    assert ", 35 rows" in said
    for config, rows in before.items():
        assert read_labels(new, config_hash=config).equals(rows)
        assert f"configuration {config}" in said
        (run,) = find_runs(new, "labels", config)
        assert run.finished
        assert storage.exists(run.layout.shard(0, "class_stats"))
    assert [choose(new, "labels", None).config_hash, *choose(new, "labels", None).others] == ["new", "middle", "old"]


def test_compacting_one_says_what_is_left_out(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    new = f"{output}-compacted"
    assert compact.main([f"--labels={output}", f"--output={new}", "--config-hash=middle"]) == 0
    said = capsys.readouterr().out
    assert "10 rows" in said
    assert "left out     the configurations new, old" in said
    assert choose(new, "labels", None).others == ()


@pytest.mark.parametrize("to", ["coco", "png", "huggingface", "fiftyone", "label-studio", "cvat"])
def test_an_export_says_whose_it_is(to: str, output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "in"
    for number in range(2):
        storage.write_bytes(f"{images}/{number}.png", encode_png(np.zeros((10, 10, 3), np.uint8)))
    mask = {"bytes": encode_png(np.zeros((10, 10), np.uint8)), "path": None}
    rows = {f"{number}.png": {**labelled(9, **{TASK.class_names[1]: 0.5}), "mask": mask} for number in range(2)}
    night(output, 4, rows, prefix=str(images), config_hash="there", model_id="0123abcd")
    target = tmp_path / "export"
    common = [f"--labels={output}", f"--to={to}", f"--output={target}"]
    assert export.main([*common, "--config-hash=there"]) == 0
    said = capsys.readouterr().out
    assert "model 0123abcd" in said
    assert "configuration there, one of 4; the others: new, middle, old" in said
    readme = (target / "README.md").read_text()
    for part in ("model_id: `0123abcd`", "config_hash: `there`", f"labels: `{output}`", "images: `2`"):
        assert part in readme


def test_changes_say_what_else_there_is(output: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert changes.main([f"--labels={output}"]) == 0
    assert "before middle, after new (not compared: old; choose with --before and --after)" in capsys.readouterr().out
    assert changes.main([f"--labels={output}", "--before=old", "--after=middle"]) == 0
    assert "before old, after middle (not compared: new" in capsys.readouterr().out


# --- samples ---


@pytest.fixture
def samples(tmp_path: Path) -> str:
    publish_boxes(tmp_path / "samples", 24, config_hash="old", run=1)
    publish_boxes(tmp_path / "samples", 8, config_hash="new", run=2)
    return str(tmp_path / "samples")


def test_samples_are_chosen_and_said(
    samples: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert read_samples(samples, columns=["uri"]).num_rows == 8
    assert "has samples of 2 configurations; using new" in caplog.text
    assert read_samples(samples, config_hash="old", columns=["uri"]).num_rows == 24
    assert [SampleStream(samples, config_hash=one).num_samples for one in ("old", "new")] == [24, 8]
    assert curate_main([f"--samples={samples}", "--config-hash=old", "--drop-uncertain=0"]) == 0
    assert "samples of configuration old, one of 2; the others: new" in capsys.readouterr().out
    assert read_samples(samples, columns=["uri"]).num_rows == SampleStream(samples).num_samples == 24
    with pytest.raises(
        ValueError, match=r"is for the samples of old, not new; run ddpm-seg curate with --config-hash new"
    ):
        read_samples(samples, config_hash="new")
    assert read_samples(samples, config_hash="new", curated=False).num_rows == 8
    assert curate(CurateConfig(samples=samples)).config_hash == "new"
