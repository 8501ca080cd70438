from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from ddpm_seg import storage
from ddpm_seg.runs import ledger
from ddpm_seg.runs import manifest as manifests
from ddpm_seg.runs.commit import chunk_folders, write_chunk
from ddpm_seg.runs.ledger import (
    KnownRun,
    delete_leftovers,
    find_runs,
    freeze_run,
    input_keys,
    next_number,
    planned_keys,
)
from ddpm_seg.runs.manifest import Manifest, RunInfo, inputs_table, plan
from ddpm_seg.runs.parquet import encode, open_parquet, read_table
from ddpm_seg.runs.upkeep.forget import forget
from ddpm_seg.storage.local import temporary_name

NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


def file(name: str, *, etag: str | None = None, size: int = 1, modified: datetime = NOW) -> storage.FileInfo:
    return storage.FileInfo(uri=f"s3://b/{name}", size_bytes=size, etag=etag, modified=modified)


def manifest(files: list[storage.FileInfo], config_hash: str = "c") -> Manifest:
    info = RunInfo(run_id="", config_hash=config_hash, created_at=NOW, config={})
    return Manifest(info=info, items=plan(inputs_table(files), shard_size=2, chunk_size=1))


def freeze(output: Path | str, files: list[storage.FileInfo], config_hash: str = "c") -> KnownRun:
    run = freeze_run(
        str(output), "labels", manifest(files, config_hash), next_number(str(output), config_hash, ("labels",))
    )
    assert run is not None
    return run


def finish(run: KnownRun) -> None:
    for shard in run.manifest.shard_sizes():
        storage.write_bytes(run.layout.shard(shard), b"rows")
    storage.write_bytes(run.layout.report, b"report")


def new(output: Path, files: list[storage.FileInfo]) -> list[str]:
    inputs = inputs_table(files)
    planned = pc.is_in(input_keys(inputs), value_set=planned_keys(find_runs(str(output), "labels", "c")))
    return inputs.filter(pc.invert(planned))["uri"].to_pylist()


def test_an_empty_output_has_no_runs(tmp_path: Path) -> None:
    assert find_runs(str(tmp_path / "not yet"), "labels", "c") == []
    assert new(tmp_path, [file("a"), file("b")]) == ["s3://b/a", "s3://b/b"]


def test_a_finished_run_is_done_and_what_changed_since_is_new(tmp_path: Path) -> None:
    files = [file("etag", etag="1"), file("size"), file("time"), file("same"), file("same etag", etag="2")]
    finish(freeze(tmp_path, files))
    assert new(tmp_path, files) == []
    later = NOW + timedelta(seconds=1)
    changed = [
        file("etag", etag="9"),
        file("size", size=9),
        file("time", modified=later),
        file("same"),
        file("same etag", etag="2", modified=later),  # copied again: the content is what counts where it is known
        file("added"),
    ]
    assert new(tmp_path, changed) == ["s3://b/added", "s3://b/etag", "s3://b/size", "s3://b/time"]


def test_a_shard_that_was_deleted_is_work_again(tmp_path: Path) -> None:
    files = [file(name) for name in "abcde"]
    run = freeze(tmp_path, files)
    finish(run)
    storage.delete(run.layout.shard(1))
    assert new(tmp_path, files) == ["s3://b/c", "s3://b/d"]


def test_an_unfinished_run_keeps_its_inputs(tmp_path: Path) -> None:
    run = freeze(tmp_path, [file("a"), file("b")])
    (found,) = find_runs(str(tmp_path), "labels", "c")
    assert not found.finished
    assert found.layout == run.layout
    assert new(tmp_path, [file("a"), file("b"), file("c")]) == ["s3://b/c"]


def test_numbers_are_shared_and_configurations_kept_apart(tmp_path: Path) -> None:
    runs = [freeze(tmp_path, [file("a")], "c"), freeze(tmp_path, [file("a")], "d"), freeze(tmp_path, [file("b")], "c")]
    assert [run.layout.run_id for run in runs] == ["run-000001", "run-000002", "run-000003"]
    assert [run.layout.run_id for run in find_runs(str(tmp_path), "labels", "c")] == ["run-000001", "run-000003"]
    assert all(run.manifest.info.run_id == run.layout.run_id for run in find_runs(str(tmp_path), "labels", "d"))


def test_the_loser_of_a_race_is_told(tmp_path: Path) -> None:
    number = next_number(str(tmp_path), "c", ("labels",))
    first = freeze(tmp_path, [file("a")])
    # Others, who looked before the winner wrote.
    assert freeze_run(str(tmp_path), "labels", manifest([file("b")]), number) is None
    other = freeze_run(str(tmp_path), "labels", manifest([file("b")], "another"), number)
    assert other is not None
    assert other.layout.run_id == "run-000002"
    assert find_runs(str(tmp_path), "labels", "c") == [first]


def test_a_plan_made_before_another_run_began_and_ended_is_not_carried_out(tmp_path: Path) -> None:
    number = next_number(str(tmp_path), "c", ("labels",))
    finish(freeze(tmp_path, [file("a")], "another"))
    finish(freeze(tmp_path, [file("a")]))
    assert freeze_run(str(tmp_path), "labels", manifest([file("a")]), number) is None


def test_a_run_is_numbered_after_every_shard_that_still_stands(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where someone deleted `runs/` alone, what stays under `labels/` is not taken for the new run's, and is named."""
    finish(freeze(tmp_path, [file("a")]))
    finish(freeze(tmp_path, [file("b")]))
    next_number(str(tmp_path), "c", ("labels",))
    assert caplog.text == ""
    shutil.rmtree(tmp_path / "runs")
    assert next_number(str(tmp_path), "c", ("labels",)) == 3
    assert "labels/config=c has shards of run-000001, run-000002, whose plans are no longer in runs/" in caplog.text
    assert next_number(str(tmp_path), "another", ("labels",)) == 1


def test_the_output_may_be_named_like_a_run(tmp_path: Path) -> None:
    output = tmp_path / "runs" / "run-000007" / "run-000008"
    assert freeze(output, [file("a")]).layout.run_id == "run-000001"
    assert freeze(output, [file("b")]).layout.run_id == "run-000002"


def test_chunks_of_finished_runs_are_leftovers(tmp_path: Path) -> None:
    delete_leftovers(str(tmp_path / "not yet"))
    stray, waiting = freeze(tmp_path, [file("a")]), freeze(tmp_path, [file("b")], "another")
    finish(stray)
    for run in (stray, waiting):
        write_chunk(run.planned(), 0, 0, pa.table({"name": ["late"]}))
        storage.write_bytes(
            f"{tmp_path}/_chunks/run={run.layout.run_id}/shard-00000/chunk-0000.parquet", b"old release"
        )
    storage.write_bytes(f"{tmp_path}/_chunks/run=run-000003-{'0' * 32}/shard-00000/chunk-0000.parquet", b"nobody's")
    delete_leftovers(str(tmp_path))
    assert stray.planned().finished_chunks() == set()
    assert waiting.planned().finished_chunks() == {(0, 0)}
    assert chunk_folders(str(tmp_path)) == {"run=run-000002", f"run=run-000002-{waiting.manifest.digest}"}


@pytest.mark.parametrize("storage_kind", ["local", "s3"])
def test_heartbeats_of_finished_runs_and_trial_files_are_leftovers(
    storage_kind: str, tmp_path: Path, s3: Callable[[], str]
) -> None:
    place = str(tmp_path) if storage_kind == "local" else s3()
    done, waiting = freeze(place, [file("a")]), freeze(place, [file("b")], "another")
    storage.write_bytes(done.layout.report, b"done")
    for run in (done, waiting):
        storage.write_bytes(run.layout.heartbeat, b"{}")
    trial, other = (storage.join(place, name) for name in (temporary_name(), ".mine.tmp"))
    for uri in (trial, other):
        storage.write_bytes(uri, b"?")
    delete_leftovers(place)
    left = [storage.exists(uri) for uri in (done.layout.heartbeat, waiting.layout.heartbeat, trial, other)]
    assert left == [False, True, False, True]


def test_of_many_planners_at_once_each_number_has_one(tmp_path: Path) -> None:
    results: list[KnownRun | None] = [None] * 8
    barrier = threading.Barrier(8)

    def work(index: int) -> None:
        barrier.wait()
        results[index] = freeze_run(str(tmp_path), "labels", manifest([file(str(index))], f"config {index % 2}"), 1)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [run for run in results if run is not None]
    assert len({run.layout.run_id for run in won}) == len(won) >= 2
    for run in won:
        (found,) = [r for r in find_runs(str(tmp_path), "labels", run.layout.config_hash) if r.layout == run.layout]
        assert found.manifest.items.equals(run.manifest.items)


def test_a_manifest_of_small_row_groups_is_read_with_few_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `forget` once rewrote them; what it rewrites now has the row groups that it had."""
    monkeypatch.setattr(ledger, "BATCH_ROWS", 100)
    monkeypatch.setattr(manifests, "BATCH_ROWS", 100)
    files = [file(f"{number:03}") for number in range(250)]
    run = freeze(tmp_path, files)
    finish(run)
    assert group_sizes(run) == [100, 100, 50]
    expected = planned_keys([run]).to_pylist()
    items = read_table(run.layout.manifest)
    storage.write_bytes(run.layout.manifest, encode(items, row_group_size=30))
    asked: list[list[int]] = []
    real = pq.ParquetFile.iter_batches

    def iter_batches(self: pq.ParquetFile, size: int, *, row_groups: list[int], columns: list[str]) -> Any:
        asked.append(row_groups)
        return real(self, size, row_groups=row_groups, columns=columns)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)
    assert planned_keys([run]).to_pylist() == expected
    assert asked == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    for shard in run.manifest.shard_sizes():
        storage.delete(run.layout.shard(shard))
    forget(str(tmp_path), ["s3://b/003"], lambda _: None)
    assert group_sizes(run) == [100, 100, 49]


def group_sizes(run: KnownRun) -> list[int]:
    with open_parquet(run.layout.manifest) as manifest:
        about = manifest.metadata
        return [about.row_group(group).num_rows for group in range(about.num_row_groups)]
