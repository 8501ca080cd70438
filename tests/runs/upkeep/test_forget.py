from __future__ import annotations

from pathlib import Path

import pytest

from ddpm_seg import storage
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.upkeep import forget as runs_forget
from ddpm_seg.runs.upkeep.forget import forget
from ddpm_seg.runs.view import read_labels
from tests.runs.nightly_runs import labelled, night


def report_again(layout: RunLayout) -> None:
    storage.write_bytes(layout.report, b"report")


@pytest.mark.parametrize("place", ["out", "_set_aside/runs/run-7/labels/config=a/run=run-000001/out"])
def test_an_output_may_be_called_like_its_own_folders(tmp_path: Path, place: str) -> None:
    out = tmp_path / place
    for number in (1, 2):
        night(out, number, {name: labelled(number, background=1.0) for name in ("a.png", f"{number}.png")})
    aside = out / "_set_aside/labels/config=c/run=run-000001/shard-00000.parquet"
    shard = out / "labels/config=c/run=run-000001/shard-00000.parquet"
    storage.write_bytes(str(aside), shard.read_bytes())
    done = forget(str(out), ["s3://b/a.png"], report_again)
    assert done.runs == {"run-000001", "run-000002"}
    assert read_labels(str(out))["uri"].to_pylist() == ["s3://b/1.png", "s3://b/2.png"]
    assert aside.read_bytes() == shard.read_bytes()


def test_a_run_that_was_planned_meanwhile_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = {"a.png": labelled(1, background=1.0)}
    night(tmp_path, 1, images)
    record = runs_forget.record_forgotten

    def planned_meanwhile(output: str, names: list[str]) -> str:
        storage.delete(night(output, 2, images).layout.report)
        return record(output, names)

    with monkeypatch.context() as patch:
        patch.setattr(runs_forget, "record_forgotten", planned_meanwhile)
        with pytest.raises(ValueError, match=r"run-000002 under .* finish it with the same ddpm-seg label command"):
            forget(str(tmp_path), ["s3://b/a.png"], report_again)
    report_again(RunLayout(output=str(tmp_path), table="labels", config_hash="c", run_id="run-000002"))
    assert forget(str(tmp_path), ["s3://b/a.png"], report_again).rows["labels"] == 2
