"""Old configurations and leftovers are listed, and deleted only on request; whatever else is there stays as it is."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ddpm_seg import read_labels, storage
from ddpm_seg.runs.upkeep.prune import find_removable, remove
from jobs.compact import main
from tests.runs.nightly_runs import labelled, night


def images(*numbers: int) -> dict[str, Any]:
    return {f"{number}.png": labelled(number, background=1.0) for number in numbers}


@pytest.fixture(params=["out", "runs/run-7/_set_aside/labels/config=a/run=run-000001/out"])
def output(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Two nights of configuration a, one of b, and two of c, the newest; and what dead workers left. An output's own
    name may look like those of its folders."""
    out = tmp_path / request.param
    for number, config_hash in ((1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "c")):
        night(out, number, images(*range(number, number + 4)), config_hash=config_hash)
    for name in (
        "_chunks/run=run-000004-0a1b/chunk-00000.parquet",
        "_chunks/run=run-000099-0a1b/chunk-00000.parquet",
        "_set_aside/labels/config=c/run=run-000004/shard-00000.parquet",
        "runs/run-000005/heartbeat.json",
        "runs/run-000007/report.html",
        "annotate_next.csv",
        "labels/notes.txt",
    ):
        storage.write_bytes(str(out / name), b"12345")
    return out


def content(output: Path) -> dict[str, bytes]:
    found = (path for path in output.rglob("*") if path.is_file())
    return {str(path.relative_to(output)): path.read_bytes() for path in found}


def titles(output: Path, config_hash: str | None = None) -> list[str]:
    return [one.title for one in find_removable(str(output), config_hash).removable]


LEFT = ["heartbeats and chunks of finished runs", "shards that were set aside", "folders of runs without a plan"]


def test_a_list_changes_nothing(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(output)
    assert main([f"--labels={output}", "--prune"]) == 0
    assert content(output) == before
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "kept      configuration c"
    size = sum(len(data) for name, data in before.items() if "config=b/" in name or "run-000002" in name) / 1e6
    assert f"can go    configuration b, 1 run: 7 files, {size:,.1f} MB" in shown
    assert shown[-1] == "nothing was deleted: add --delete to delete what can go"
    assert titles(output) == ["configuration a, 2 runs", "configuration b, 1 run", *LEFT]


def test_what_is_deleted_and_what_stays(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, labels = content(output), read_labels(str(output), config_hash="c")
    assert main([f"--labels={output}", "--prune", "--delete"]) == 0
    assert "deleted   configuration a, 2 runs: 14 files" in capsys.readouterr().out
    after = content(output)
    assert read_labels(str(output)).equals(labels)
    assert all(before[name] == data for name, data in after.items())
    gone = ("config=a/", "config=b/", "_chunks/", "_set_aside/", "heartbeat", *(f"run-{n:06d}" for n in (1, 2, 3, 7)))
    assert after.keys() == {name for name in before if not any(one in name for one in gone)}
    assert titles(output) == []
    assert main([f"--labels={output}", "--prune"]) == 0
    assert capsys.readouterr().out.splitlines() == ["kept      configuration c", "nothing else is there"]


def test_another_configuration_may_be_the_one_to_keep(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert titles(output, "a")[:2] == ["configuration b, 1 run", "configuration c, 2 runs"]
    labels = read_labels(str(output), config_hash="a")
    remove(find_removable(str(output), "a"))
    assert read_labels(str(output)).equals(labels)
    assert main([f"--labels={output}", "--prune", "--config-hash", "x"]) == 2
    assert "no labels of configuration x; it has those of a" in capsys.readouterr().err


def test_unfinished_runs_stay_with_their_configuration_and_chunks(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage.delete(str(output / "runs" / "run-000003" / "report.html"))
    chunk = output / "_chunks" / "run=run-000003-0a1b" / "chunk-00000.parquet"
    storage.write_bytes(str(chunk), b"1")
    assert main([f"--labels={output}", "--prune", "--delete"]) == 0
    assert "kept      configuration a: a run of it is not finished" in capsys.readouterr().out
    assert chunk.exists()
    assert read_labels(str(output), config_hash="a").num_rows == 6


def test_a_run_that_begins_meanwhile_stays(output: Path) -> None:
    found = find_removable(str(output))
    storage.delete(str(output / "runs" / "run-000001" / "report.html"))
    before = content(output)
    with pytest.raises(ValueError, match="run-000001 of configuration a has begun meanwhile: it was not deleted"):
        remove(found)
    assert content(output) == before


def test_a_removal_that_was_killed_goes_on(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it was killed, the rest is found again, nothing is taken for an unfinished run, and the same goes."""
    labels = read_labels(str(output), config_hash="c")
    real, kills = storage.delete, 0
    while (found := find_removable(str(output))).removable:
        assert found.unfinished == ()
        left = [kills]

        def delete(uri: str, left: list[int] = left) -> None:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            real(uri)

        with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
            patch.setattr(storage, "delete", delete)
            remove(found)
        kills += 1
        assert kills < 30
    assert kills > 3
    assert read_labels(str(output)).equals(labels)


def test_samples_in_the_same_output_stay(output: Path) -> None:
    shard = output / "samples" / "config=b" / "run=run-000002" / "shard-00000.parquet"
    storage.write_bytes(str(shard), b"samples")
    assert titles(output) == ["configuration a, 2 runs", *LEFT]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--prune", "--output=new"], "leave out --output"),
        (["--delete", "--output=new"], "--delete goes with --prune"),
        ([], "give --output for the compacted tables, or --prune"),
    ],
)
def test_flags_that_do_not_go_together(
    output: Path, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    before = content(output)
    with pytest.raises(SystemExit, match="2"):
        main([f"--labels={output}", *flags])
    assert message in " ".join(capsys.readouterr().err.split())
    assert content(output) == before


def test_no_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"--labels={tmp_path}", "--prune"]) == 2
    assert "no labels table under" in capsys.readouterr().err
