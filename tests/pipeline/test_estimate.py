"""What a dry run says about the cluster, time and cost."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ddpm_seg import storage
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.model.trained import load_model
from ddpm_seg.pipeline import estimate as module
from ddpm_seg.pipeline.estimate import Pace, estimate
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.plan import LabelPlan, plan_label
from ddpm_seg.pipeline.label.trial import time_images
from ddpm_seg.runs.layout import RunLayout
from tests.tiny_bundle import tiny_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 255, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"{number}.png")
    save_bundle(tiny_bundle(), str(tmp_path / "tiny"))
    return tmp_path


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a cluster to join, four CPUs and no GPU."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)


def plan(folder: Path, **options: object) -> LabelPlan:
    places = {"input": str(folder / "photos"), "output": str(folder / "out"), "model": str(folder / "tiny")}
    return plan_label(LabelConfig(**places, **options))  # type: ignore[arg-type]


def tenth_of_an_hour() -> Pace:
    return Pace(seconds=360, known_from="made up")


@pytest.mark.usefixtures("machine")
def test_time_is_items_times_pace_over_actors_and_cost_is_time_times_price(folder: Path) -> None:
    said = estimate(plan(folder, num_actors=2, price_per_hour=4.0), tenth_of_an_hour)
    assert said.splitlines() == [
        "cluster    this machine, 4 CPUs, no GPU; actors: 2, each on 1 CPU",
        "time       about 15 min 00 s: 360 s for each of 5, made up",
        "cost       about 1.00 at 4 per hour",
    ]


@pytest.mark.usefixtures("machine")
def test_without_a_pace_it_says_so_and_without_a_price_nothing_of_cost(folder: Path) -> None:
    said = estimate(plan(folder), lambda: None)
    assert said.endswith("time       not known before the first run with this model and these options")
    assert "cost" not in estimate(plan(folder), tenth_of_an_hour)


@pytest.mark.usefixtures("machine")
def test_an_earlier_run_with_the_same_options_counts_before_a_trial(folder: Path) -> None:
    found = plan(folder)
    layout = RunLayout(output=found.run.output, table="labels", config_hash=found.run.config_hash, run_id="run-000007")
    storage.write_bytes(layout.summary, json.dumps({"images_per_hour": 7200.0}).encode())
    storage.write_bytes(layout.run_json, json.dumps({"cluster": {"actors": 3}}).encode())
    pace = module._earlier_pace(with_last_run(found, "run-000007"))
    assert pace is not None
    assert pace.seconds == pytest.approx(1.5)
    assert pace.known_from == "as in run-000007 with 3 actors"
    storage.write_bytes(layout.summary, b"{spoilt")
    assert module._earlier_pace(with_last_run(found, "run-000007")) is None


def with_last_run(found: LabelPlan, run_id: str) -> LabelPlan:
    import dataclasses

    return dataclasses.replace(found, run=dataclasses.replace(found.run, last_run=run_id))


@pytest.mark.usefixtures("machine")
def test_what_the_cluster_lacks_is_said(folder: Path) -> None:
    waits = estimate(plan(folder, num_actors=2, wait_for_gpus=30.0), tenth_of_an_hour)
    assert "no GPU; the job would wait up to 30 minutes for GPUs for 2 actors" in waits
    cannot = estimate(plan(folder, num_actors=40), tenth_of_an_hour)
    assert "the job cannot start: the cluster has 4 CPUs" in cannot
    assert "time" not in cannot


def test_a_cluster_is_asked(folder: Path, ray_cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", ray_cluster)
    said = estimate(plan(folder), tenth_of_an_hour)
    assert "1 node, 2 CPUs, 2 GPUs; actors: 2, each on 1 GPU" in said


def test_a_trial_times_images_that_can_be_read(folder: Path) -> None:
    (folder / "photos" / "0.png").write_bytes(b"not an image")
    found = plan(folder)
    pace = time_images(found, load_model(found.config.model))
    assert pace is not None
    assert pace.seconds > 0
    assert re.fullmatch(r"timed here on 4 of them \(cpu\)", pace.known_from)
    for path in (folder / "photos").iterdir():
        path.write_bytes(b"not an image")
    assert time_images(plan(folder), load_model(found.config.model)) is None
