from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ddpm_seg.data.inputs.listing import list_images
from ddpm_seg.errors import StageError, TooManyErrors
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.runs.heartbeat import AlreadyRunningError
from ddpm_seg.storage import StorageError
from jobs.label import main
from tests.tiny_bundle import tiny_bundle


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    save_bundle(tiny_bundle(), str(tmp_path / "model"))
    (tmp_path / "in").mkdir()
    for i in range(3):
        Image.fromarray(np.full((20, 30, 3), 80 * i, np.uint8)).save(tmp_path / "in" / f"{i}.png")
    (tmp_path / "in" / "broken.jpg").write_bytes(b"")
    (tmp_path / "in" / "readme.md").write_text("no image")
    return [
        f"--{name}={tmp_path / folder}" for name, folder in [("input", "in"), ("output", "out"), ("model", "model")]
    ]


def test_the_command_labels_and_then_has_nothing_to_do(ray_cluster: str, arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs.label", *arguments]
    environment = {**os.environ, "RAY_ADDRESS": ray_cluster}
    first = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200)
    assert first.returncode == 0, first.stderr
    assert "4 images: 3 labelled, 1 errors (1 empty)" in first.stdout
    assert "run-000001: 4 of 4 images" in first.stderr
    for place in ("labels", "class_stats", "runs/run-000001/report.html"):
        assert str(tmp_path / "out" / place) in first.stdout
    # The snippet that it prints is Python, and gives the mean areas of the run's summary and so of its report.
    *setup, last = (line.strip() for line in first.stdout.splitlines() if line.startswith("    "))
    names: dict[str, Any] = {}
    exec("\n".join(setup), names)
    areas = eval(last, names).to_dict()
    summary = json.loads((tmp_path / "out" / "runs" / "run-000001" / "summary.json").read_text())
    classes = summary["statistics"]["classes"].items()
    reported = {name: one["area"]["mean"] for name, one in classes if one["area"]["mean"]}
    assert areas == pytest.approx(reported)
    # An address where no cluster is: with nothing to do none is asked.
    environment["RAY_ADDRESS"] = "127.0.0.1:1"
    choose = [*command, "--active", "2"]
    second = subprocess.run(choose, env=environment, capture_output=True, text=True, timeout=100)
    assert second.returncode == 0, second.stderr
    assert "nothing new" in second.stdout
    # Two of the three that could be read are worth annotating; their list is an input of the next run.
    rows = list(csv.DictReader((tmp_path / "out" / "annotate_next.csv").open()))
    assert len({row["uri"] for row in rows}) == 2
    assert all(row["uri"] in second.stdout for row in rows)
    page = (tmp_path / "out" / "annotate_next.html").read_text()
    assert [page.index(f">{Path(row['uri']).name}</bdi>") for row in rows] == sorted(
        page.index(f">{Path(row['uri']).name}</bdi>") for row in rows
    )
    assert page.count("<figure>") == 2
    assert list(list_images(str(tmp_path / "out" / "annotate_next.csv")).files)


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--dry-run", "--shard-size", "2"]) == 0
    shown = capsys.readouterr().out
    assert "4 found, 1 files without" in shown
    assert "4 in 2 shards of 2" in shown
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--input", "/not/there"], "/not/there"),
        (["--shard-size", "0"], "--shard-size must be at least 1"),
        (["--gpus-per-actor", "-1"], "--gpus-per-actor must be above 0"),
        (["--fit", "crop"], "letterbox"),
        (["--max-errors", "some"], "--max-errors must be a number of images"),
        (["--config", "/not/there.yaml"], "/not/there.yaml"),
    ],
)
def test_wrong_use_is_one_message_and_status_2(
    flags: list[str], message: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main([*arguments, *flags])
    except SystemExit as stop:
        status = int(str(stop.code))
    assert status == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (TooManyErrors("7 of 9 images have errors"), 3, "stopped: 7 of 9 images have errors\n"),
        (StageError("disk full"), 4, "failed: disk full; run the same command again to continue\n"),
        (KeyboardInterrupt(), 4, "interrupted; run the same command again to continue\n"),
        (AlreadyRunningError("ann is at it"), 5, "already running: ann is at it\n"),
        (StorageError("the bucket does not exist"), 2, "error: the bucket does not exist\n"),
    ],
)
def test_each_way_to_end_has_its_status_and_one_line(
    error: BaseException,
    status: int,
    message: str,
    arguments: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(config: object) -> None:
        raise error

    monkeypatch.setattr("ddpm_seg.pipeline.label.job.run_label", fail)
    assert main([*arguments, "--max-errors", "5%", "--retry-errors"]) == status
    assert capsys.readouterr().err == message


def test_a_configuration_file_gives_defaults_that_flags_override(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "job.yaml").write_text("shard_size: 3\nchunk-size: 1\ndry_run: true\n")
    assert main([*arguments, "--config", str(tmp_path / "job.yaml")]) == 0
    assert "2 shards of 3" in capsys.readouterr().out
    assert main([*arguments, "--config", str(tmp_path / "job.yaml"), "--shard-size", "1"]) == 0
    assert "4 shards of 1" in capsys.readouterr().out
