from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ddpm_seg import storage
from ddpm_seg.data.schema import labels_schema
from ddpm_seg.evaluation.pages.report import write_report
from ddpm_seg.evaluation.tables.drift import describe, earlier_statistics, find_drift, statistics_of
from ddpm_seg.evaluation.tables.totals import read_totals
from ddpm_seg.json_text import json_file
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.ledger import KnownRun
from ddpm_seg.runs.parquet import encode
from tests.runs.nightly_runs import labelled, night
from tests.tiny_bundle import TASK

A, B = TASK.class_names[:2]


def images(seed: int, *, area: float = 0.3, uncertainty: float = 0.1, count: int = 60) -> dict[str, dict[str, Any]]:
    """`count` images, of which two in three have class B, with this share of their pixels on average."""
    generator = np.random.default_rng(seed)
    drawn = {}
    for number in range(count):
        share = float(np.clip(generator.normal(area, 0.05), 0.01, 0.99)) if number % 3 else 0.0
        parts = {A: 1 - share, B: share} if share else {A: 1.0}
        drawn[f"{seed}-{number:03}.png"] = labelled(number, float(uncertainty * generator.gamma(9, 1 / 9)), **parts)
    return drawn


def statistics(rows: list[dict[str, Any]], folder: Path) -> dict[str, Any]:
    file = str(folder / "shard-00000.parquet")
    storage.write_bytes(file, encode(pa.Table.from_pylist(rows, schema=labels_schema(TASK))))
    return statistics_of(read_totals([file], keep_uncertain=0, keep_errors=0))


def of_night(seed: int, folder: Path, **options: Any) -> dict[str, Any]:
    rows = [{"uri": name, "status": "ok", **row} for name, row in images(seed, **options).items()]
    return statistics(rows, folder)


def test_statistics_are_those_of_the_rows(tmp_path: Path) -> None:
    rows = [{"uri": name, "status": "ok", **row} for name, row in images(0).items()]
    found = statistics([*rows, {"uri": "x", "status": "error", "error_type": "empty"}], tmp_path)
    shares = {name: [{c["class_name"]: c["fraction"] for c in row["classes"]}.get(name, 0.0) for row in rows]
              for name in (A, B)}  # fmt: skip
    for name in (A, B):
        of_class = found["classes"][name]
        assert of_class["area"]["images"] == len(rows)
        assert of_class["area"]["mean"] == pytest.approx(np.mean(shares[name]))
        assert of_class["area"]["variance"] == pytest.approx(np.var(shares[name]), abs=1e-12)
        known = [c["mean_uncertainty"] for row in rows for c in row["classes"] if c["class_name"] == name]
        assert of_class["uncertainty"]["images"] == len(known)
        assert of_class["uncertainty"]["mean"] == pytest.approx(np.mean(known))
        assert of_class["uncertainty"]["variance"] == pytest.approx(np.var(known))
    assert found["uncertainty"]["mean"] == pytest.approx(np.mean([row["uncertainty"] for row in rows]))


def test_nights_of_one_kind_do_not_drift(tmp_path: Path) -> None:
    nights = [of_night(seed, tmp_path) for seed in range(12)]
    for number in range(5, 12):
        assert find_drift(nights[number], nights[:number]) == {"runs": number, "flags": []}


@pytest.mark.parametrize(
    ("changed", "flagged"),
    [
        ({"area": 0.5}, {(A, "area"), (B, "area")}),
        ({"uncertainty": 0.3}, {(None, "uncertainty"), (A, "uncertainty"), (B, "uncertainty")}),
    ],
)
def test_what_changes_is_flagged_and_nothing_else(
    tmp_path: Path, changed: dict[str, float], flagged: set[tuple[str | None, str]]
) -> None:
    before = [of_night(seed, tmp_path) for seed in range(8)]
    now = of_night(99, tmp_path, **changed)
    drift = find_drift(now, before)
    assert {(flag["class_name"], flag["measure"]) for flag in drift["flags"]} == flagged
    for flag in drift["flags"]:
        assert flag["runs"] == 8
        assert abs(flag["now"] - flag["before"]) > 3 * flag["deviation"]
    assert "8 runs" in describe(drift["flags"][0])


def test_a_difference_that_nights_always_have_is_no_drift(tmp_path: Path) -> None:
    before = [of_night(seed, tmp_path, area=0.2 + 0.1 * (seed % 3)) for seed in range(9)]
    assert find_drift(of_night(99, tmp_path, area=0.45), before)["flags"] == []
    assert find_drift(of_night(99, tmp_path, area=0.85), before)["flags"] != []


def test_images_that_are_all_alike(tmp_path: Path) -> None:
    def alike(share: float) -> dict[str, Any]:
        rows = [{"uri": str(i), "status": "ok", **labelled(i, 0.1, **{A: 1 - share, B: share})} for i in range(30)]
        return statistics(rows, tmp_path)

    assert find_drift(alike(0.25), [alike(0.25)] * 6)["flags"] == []
    drift = find_drift(alike(0.5), [alike(0.25)] * 6)
    assert {(flag["class_name"], flag["measure"]) for flag in drift["flags"]} == {(A, "area"), (B, "area")}


def test_few_runs_or_images_say_nothing(tmp_path: Path) -> None:
    before = [of_night(seed, tmp_path) for seed in range(8)]
    assert find_drift(of_night(99, tmp_path, area=0.9), before[:4])["flags"] == []
    assert find_drift(of_night(99, tmp_path, area=0.9, count=19), before)["flags"] == []
    assert find_drift(of_night(99, tmp_path, area=0.9), []) == {"runs": 0, "flags": []}


def test_the_report_compares_with_earlier_runs_of_the_same_configuration(tmp_path: Path) -> None:
    for number in range(1, 6):
        report(night(tmp_path, number, images(number)))
    # Another model's run, and a later one, are not what this one is compared with.
    other = RunLayout(output=str(tmp_path), table="labels", config_hash="other", run_id="run-000006")
    storage.write_bytes(
        other.summary, json_file({"config_hash": "other", "statistics": {"uncertainty": {}, "classes": {}}})
    )
    summary, page = report(night(tmp_path, 7, images(7, area=0.6)))
    assert summary["drift"]["runs"] == 5
    assert {flag["class_name"] for flag in summary["drift"]["flags"]} == {A, B}
    assert "has moved" not in page
    assert all(f"{flag['before']:.1%}".replace("%", " %") in page for flag in summary["drift"]["flags"])
    third = RunLayout(output=str(tmp_path), table="labels", config_hash="c", run_id="run-000003")
    assert len(earlier_statistics(third)) == 2
    quiet, page = report(night(tmp_path, 8, images(8)))
    assert quiet["drift"] == {"runs": 6, "flags": []}
    assert "have not moved since the 6 runs before" in page


def report(run: KnownRun) -> tuple[dict[str, Any], str]:
    """As the job ends a run: its summary and its page."""
    storage.write_bytes(run.layout.summary, json_file({"config_hash": "c", "images": 60}))
    uri = write_report(run.layout.output, run.layout.run_id, contact_sheet=0)
    return json.loads(storage.read_bytes(run.layout.summary)), storage.read_bytes(uri).decode()
