from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from ddpm_seg import storage
from ddpm_seg.data.schema import class_stats_table
from ddpm_seg.runs import commit
from ddpm_seg.runs.commit import (
    Settled,
    ShardPlan,
    delete_chunks,
    delete_other_chunks,
    first_one_stays,
    look_at_chunk,
    settle_shard,
    write_chunk,
)
from ddpm_seg.runs.layout import RunLayout, published_shards, uris_under
from ddpm_seg.runs.manifest import Manifest, RunInfo, create_manifest, inputs_table, plan, read_manifest
from ddpm_seg.runs.parquet import DamagedFileError, decode, encode
from ddpm_seg.runs.planned import PlannedRun, RunLostError
from tests.runs.nightly_runs import labelled, night
from tests.tiny_bundle import TASK

NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


def planned(output: str, names: str = "abc", *, created_at: datetime = NOW) -> PlannedRun:
    """Run 12 of an output, whose manifest says that it is of these images."""
    layout = RunLayout(output=output, table="labels", config_hash="c", run_id="run-000012")
    files = [storage.FileInfo(uri=f"s3://b/{name}") for name in names]
    info = RunInfo(run_id=layout.run_id, config_hash="c", created_at=created_at, config={})
    assert create_manifest(layout, Manifest(info=info, items=plan(inputs_table(files), 3, 2)))
    digest = read_manifest(layout.manifest).digest
    stamp = {"run_id": "run-000012", "config_hash": "c", "model_id": "m", "created_at": created_at}
    return PlannedRun(layout=layout, digest=digest, stamp=stamp)


@pytest.fixture
def run(tmp_path: Path) -> PlannedRun:
    return planned(str(tmp_path))


@pytest.fixture
def layout(run: PlannedRun) -> RunLayout:
    return run.layout


def rows(names: str, *, error: str | None = None, note: str = "", **other: Any) -> pa.Table:
    """Rows of the images of these names: run 12's, but for `other`."""
    own = {"run_id": "run-000012", "config_hash": "c", "model_id": "m", "created_at": NOW, **other}
    types = {"created_at": pa.timestamp("us", tz="UTC")}
    columns = {
        "image_id": pa.array(names, pa.string()),
        "note": pa.array([note or name for name in names], pa.string()),
        "status": pa.array(["error" if error else "ok" for _ in names], pa.string()),
        "error_type": pa.array([error for _ in names], pa.string()),
        "mask": pa.array([{"bytes": b"png"} for _ in names], pa.struct([pa.field("bytes", pa.binary())])),
        **{name: pa.array([value for _ in names], types.get(name, pa.string())) for name, value in own.items()},
    }
    return pa.table(columns).replace_schema_metadata({"key": "value"})


def shard_plan(run: PlannedRun, *chunks: str) -> ShardPlan:
    return ShardPlan(run=run, shard=42, chunks=[list(names) for names in chunks or ("ab", "c")])


def settle(run: PlannedRun, *chunks: str) -> Settled:
    return settle_shard(shard_plan(run, *chunks), {"names": lambda table: table.select(["image_id"])})


def write_both(run: PlannedRun) -> None:
    write_chunk(run, 42, 1, rows("c", error="empty"))
    write_chunk(run, 42, 0, rows("ab"))


def published(layout: RunLayout, table: str | None = None) -> pa.Table:
    return decode(storage.read_bytes(layout.shard(42, table)))


BOTH = Settled(outcomes={"empty": 1, "ok": 2})


def test_a_store_that_overwrites_is_found_out(
    tmp_path: Path, s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for output in (str(tmp_path), s3(), "memory://probed"):
        assert first_one_stays(output)
        assert list(storage.list_files(output)) == []
    put = MemoryFileSystem.pipe_file  # with a store behind it that knows nothing of conditions
    monkeypatch.setattr(MemoryFileSystem, "pipe_file", lambda self, path, value, mode: put(self, path, value))
    assert not first_one_stays("memory://probed")
    assert list(storage.list_files("memory://probed")) == []


def test_names_are_those_of_the_design(run: PlannedRun, tmp_path: Path) -> None:
    write_both(run)
    settle(run)
    write_chunk(run, 43, 7, rows("x"))
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("shard*/*.parquet")}
    found |= {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("shard*.parquet")}
    assert found == {
        "labels/config=c/run=run-000012/shard-00042.parquet",
        "names/config=c/run=run-000012/shard-00042.parquet",
        f"_chunks/run=run-000012-{run.digest}/shard-00043/chunk-0007.parquet",
    }
    assert published_shards(run.layout) == published_shards(run.layout, "names") == {42}
    assert run.finished_chunks() == {(43, 7)}


def test_chunks_become_one_shard_in_order(run: PlannedRun, layout: RunLayout) -> None:
    write_both(run)
    assert run.finished_chunks() == {(42, 0), (42, 1)}
    assert settle(run) == BOTH
    table = published(layout)
    assert table["image_id"].to_pylist() == ["a", "b", "c"]
    assert table.schema.metadata[b"key"] == b"value"
    assert published(layout, "names").column_names == ["image_id"]
    assert run.finished_chunks() == set()


def test_a_repeated_publish_has_the_same_bytes(run: PlannedRun, layout: RunLayout, tmp_path: Path) -> None:
    write_both(run)
    settle(run)
    other = planned(str(tmp_path / "again"))
    # The same rows, from differently cut chunks.
    write_chunk(other, 42, 0, pa.concat_tables([rows("a"), rows("b")]))
    write_chunk(other, 42, 1, rows("c", error="empty"))
    settle(other)
    for table in ("labels", "names"):
        assert storage.read_bytes(layout.shard(42, table)) == storage.read_bytes(other.layout.shard(42, table))


def test_the_first_published_shard_stays(run: PlannedRun, layout: RunLayout) -> None:
    storage.create_bytes(layout.shard(42), encode(rows("abc", note="first")))
    write_both(run)  # a stray worker's
    assert settle(run) == Settled(outcomes={"ok": 3})
    assert published(layout)["note"].to_pylist() == ["first"] * 3
    assert published(layout, "names")["image_id"].to_pylist() == ["a", "b", "c"]
    assert run.finished_chunks() == set()


def test_the_first_chunk_stays(run: PlannedRun) -> None:
    write_chunk(run, 42, 0, rows("ab", note="first"))
    write_chunk(run, 42, 0, rows("ab", note="second"))
    assert decode(storage.read_bytes(run.chunk(42, 0)))["note"].to_pylist() == ["first"] * 2


def test_a_missing_derived_table_is_made_again(run: PlannedRun, layout: RunLayout) -> None:
    write_both(run)
    settle(run)
    before = storage.read_bytes(layout.shard(42, "names"))
    storage.delete(layout.shard(42, "names"))
    assert settle(run) == BOTH
    assert storage.read_bytes(layout.shard(42, "names")) == before


@pytest.mark.parametrize("foreign", [encode(rows("xyz").select(["image_id"])), b"PAR1 and no more", b""])
def test_a_derived_table_is_of_the_shard_that_stands(foreign: bytes, run: PlannedRun, layout: RunLayout) -> None:
    storage.write_bytes(layout.shard(42, "names"), foreign)  # left of a run whose labels/ were deleted
    write_both(run)
    for _ in range(2):
        assert settle(run) == BOTH
        assert published(layout, "names")["image_id"].to_pylist() == ["a", "b", "c"]
        storage.write_bytes(layout.shard(42, "names"), foreign)


def test_tables_that_are_right_are_not_written_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The real ones, with a statistic that is NaN."""
    doubtful = labelled(1, math.nan, **dict.fromkeys(TASK.class_names, 0.2))
    known = night(tmp_path, 1, {"a.png": doubtful, "b.png": labelled(2, **{TASK.class_names[0]: 1.0})})
    plan = ShardPlan.of(known.planned(model_id="m"), known.manifest, 0, known.manifest.shard_rows()[0])
    files = [Path(known.layout.shard(0, table)) for table in ("labels", "class_stats")]
    before = [file.stat().st_ino for file in files]
    assert settle_shard(plan, {"class_stats": class_stats_table}) == Settled(outcomes={"ok": 2})
    assert [file.stat().st_ino for file in files] == before
    assert not caplog.records


def test_a_resume_reads_no_mask(run: PlannedRun, layout: RunLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    write_both(run)
    settle(run)
    read = storage.read_bytes

    def read_but_no_shard(uri: str) -> bytes:
        assert uri != layout.shard(42), "a whole shard was asked for"
        return read(uri)

    monkeypatch.setattr(storage, "read_bytes", read_but_no_shard)
    assert settle(run) == BOTH


def test_a_stray_worker_disturbs_nobody(run: PlannedRun, layout: RunLayout) -> None:
    """It goes on writing chunks while they are merged, deleted, and looked at again."""
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            for chunk, names in enumerate(("ab", "c")):
                with suppress(OSError):  # the folder goes away under its hands
                    write_chunk(run, 42, chunk, rows(names, note="stray"))

    write_both(run)
    strays = [threading.Thread(target=write) for _ in range(4)]
    settle(run)
    before = storage.read_bytes(layout.shard(42))
    for stray in strays:
        stray.start()
    try:
        for _ in range(50):
            assert settle(run) == BOTH
    finally:
        ended.set()
        for stray in strays:
            stray.join()
    assert storage.read_bytes(layout.shard(42)) == before
    delete_chunks(run.chunks)
    assert run.finished_chunks() == set()


# --- whose rows these are ---

FOREIGN = {
    "other images": rows("xy"),
    "another order": rows("ba"),
    "too few": rows("a"),
    "too many": rows("aab"),
    "another configuration": rows("ab", config_hash="d"),
    "another run": rows("ab", run_id="run-000011"),
    "another model": rows("ab", model_id="n"),
    "another plan of the same images": rows("ab", created_at=datetime(2026, 1, 1, tzinfo=timezone.utc)),
    "nobody's": rows("ab", model_id=None),
    "other columns": rows("ab").drop_columns(["config_hash"]),
    "a column of another type": rows("ab").drop_columns(["run_id"]).append_column("run_id", pa.array([1, 2])),
}
SPOILT = {
    "empty": b"",
    "a page of HTML": b"<html>not found</html>",
    "truncated": encode(rows("ab"))[:-20],
    "noise": bytes(range(256)) * 20,
}


@pytest.mark.parametrize("what", [*FOREIGN, *SPOILT])
def test_a_chunk_that_is_not_the_plans_is_done_again(what: str, run: PlannedRun, layout: RunLayout) -> None:
    data = encode(FOREIGN[what]) if what in FOREIGN else SPOILT[what]
    write_chunk(run, 42, 1, rows("c"))
    storage.write_bytes(run.chunk(42, 0), data)
    assert look_at_chunk(shard_plan(run), 0) is None
    assert look_at_chunk(shard_plan(run), 1) == {"ok": 1}
    assert settle(run) == Settled(outcomes={}, redo=(0,))
    assert published_shards(layout) == set()
    write_chunk(run, 42, 0, rows("ab"))
    assert settle(run) == Settled(outcomes={"ok": 3})
    assert published(layout).equals(rows("abc"))


def test_a_missing_chunk_is_done_again(run: PlannedRun, layout: RunLayout) -> None:
    write_chunk(run, 42, 0, rows("ab"))
    assert settle(run) == Settled(outcomes={}, redo=(1,))
    assert published_shards(layout) == set()


def test_chunks_of_different_columns_are_done_again(run: PlannedRun, layout: RunLayout) -> None:
    write_chunk(run, 42, 0, rows("ab"))
    storage.write_bytes(run.chunk(42, 1), encode(rows("c").drop_columns(["note"])))
    assert settle(run) == Settled(outcomes={}, redo=(0, 1))
    for chunk, names in enumerate(("ab", "c")):
        write_chunk(run, 42, chunk, rows(names))
    assert settle(run) == Settled(outcomes={"ok": 3})


@pytest.mark.parametrize("what", FOREIGN)
def test_a_shard_of_another_run_is_set_aside(
    what: str, run: PlannedRun, layout: RunLayout, caplog: pytest.LogCaptureFixture
) -> None:
    shard = encode(FOREIGN[what])
    storage.write_bytes(layout.shard(42), shard)
    storage.write_bytes(layout.shard(42, "names"), encode(rows("xyz").select(["image_id"])))
    write_chunk(run, 42, 0, rows("ab"))
    assert settle(run, "ab") == Settled(outcomes={"ok": 2})
    assert published(layout).equals(rows("ab"))
    assert published(layout, "names")["image_id"].to_pylist() == ["a", "b"]
    (aside,) = uris_under(storage.join(layout.output, commit.SET_ASIDE))
    assert storage.read_bytes(aside) == shard
    assert layout.shard(42) in caplog.text
    assert aside in caplog.text


def test_a_compacted_shards_rows_are_of_earlier_runs(run: PlannedRun, layout: RunLayout) -> None:
    storage.write_bytes(layout.shard(42), encode(rows("abc", run_id="run-000003")))
    kept = replace(run, stamp={"config_hash": "c", "model_id": "m"})
    assert settle(kept) == Settled(outcomes={"ok": 3})


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_published_shard_that_cannot_be_read_is_named(spoilt: str, run: PlannedRun, layout: RunLayout) -> None:
    write_both(run)
    storage.write_bytes(layout.shard(42), SPOILT[spoilt])
    with pytest.raises(DamagedFileError, match=r"labels/.*shard-00042\.parquet cannot be read: .*; delete it, then"):
        settle(run)
    assert storage.read_bytes(layout.shard(42)) == SPOILT[spoilt]


def test_chunks_of_another_plan_are_not_seen_and_go(run: PlannedRun, tmp_path: Path) -> None:
    other = replace(run, digest="0" * 32)
    for name in (other.chunk(42, 0), f"{tmp_path}/_chunks/run=run-000012/shard-00042/chunk-0001.parquet"):
        storage.write_bytes(name, encode(rows("xy")))
    neighbour = f"{tmp_path}/_chunks/run=run-0000123-{run.digest}/shard-00000/chunk-0000.parquet"
    storage.write_bytes(neighbour, b"")
    write_both(run)
    assert run.finished_chunks() == {(42, 0), (42, 1)}
    delete_other_chunks(run)
    kept = {neighbour, run.chunk(42, 0), run.chunk(42, 1)}
    assert set(uris_under(str(tmp_path / "_chunks"))) == kept


# --- a plan that goes away ---


def work_into(run: PlannedRun) -> list[Callable[[], object]]:
    return [lambda: write_chunk(run, 42, 0, rows("ab")), lambda: settle(run, "ab")]


@pytest.mark.parametrize("place", ["local", "s3"])
def test_nothing_is_written_where_the_plan_is_gone_or_another(
    place: str, tmp_path: Path, s3: Callable[[], str]
) -> None:
    output = str(tmp_path / "out") if place == "local" else s3()
    run = planned(output)
    write_chunk(run, 42, 0, rows("ab"))
    plan_of_it, chunk = storage.read_bytes(run.layout.manifest), storage.read_bytes(run.chunk(42, 0))
    storage.delete(output)
    with pytest.raises(RunLostError, match=r"runs/run-000012/manifest\.parquet.*no longer exists"):
        write_chunk(run, 42, 0, rows("ab"))
    assert uris_under(output) == []
    planned(output, created_at=datetime(2026, 1, 3, tzinfo=timezone.utc))
    storage.write_bytes(run.chunk(42, 0), chunk)
    before = uris_under(output)
    for work in work_into(run):
        with pytest.raises(RunLostError, match="has changed"):
            work()
    assert uris_under(output) == before
    storage.write_bytes(run.layout.manifest, plan_of_it)  # moved back
    for work in work_into(run):
        work()
    assert published(run.layout).equals(rows("ab"))


def test_a_plan_that_goes_away_in_the_moment_of_publication_takes_the_shard_back(
    run: PlannedRun, layout: RunLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_chunk(run, 42, 0, rows("ab"))
    create = storage.create_bytes

    def create_and_lose(uri: str, data: bytes) -> bool:
        storage.delete(layout.folder)
        return create(uri, data)

    monkeypatch.setattr(storage, "create_bytes", create_and_lose)
    with pytest.raises(RunLostError):
        settle(run, "ab")
    assert published_shards(layout) == set()


def test_who_keeps_replacing_a_shard_is_asked_after(
    run: PlannedRun, layout: RunLayout, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    write_both(run)
    storage.write_bytes(layout.shard(42), encode(rows("xyz")))
    delete = storage.delete

    def plant_again(uri: str) -> None:
        delete(uri)
        storage.write_bytes(layout.shard(42), encode(rows("xyz")))

    monkeypatch.setattr(storage, "delete", plant_again)
    with pytest.raises(ValueError, match=r"shard-00042.*replaced 3 times"):
        settle(run)
