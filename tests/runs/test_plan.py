"""What an output still lacks: every item is exactly one of done, waiting, to retry, or new."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ddpm_seg import storage
from ddpm_seg.runs.ledger import KnownRun, find_runs, freeze_run
from ddpm_seg.runs.manifest import Manifest, RunInfo, image_id, inputs_table, plan
from ddpm_seg.runs.parquet import encode
from ddpm_seg.runs.plan import RunPlan, freeze_new, plan_run
from ddpm_seg.runs.upkeep.forgotten import record_forgotten

NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)
TABLES = "labels", "class_stats"


def items(names: str, *, size: int = 1, etag: str | None = None) -> pa.Table:
    files = (storage.FileInfo(uri=f"s3://b/{name}", size_bytes=size, etag=etag, modified=NOW) for name in names)
    return inputs_table(files)


def freeze(todo: RunPlan) -> KnownRun:
    info = RunInfo(run_id="", config_hash=todo.config_hash, created_at=NOW, config={})
    manifest = Manifest(info=info, items=plan(todo.new, shard_size=2, chunk_size=1))
    run = freeze_run(todo.output, todo.table, manifest, todo.next_number)
    assert run is not None
    return run


def finish(run: KnownRun, errors: str = "") -> None:
    rows = run.manifest.items
    failed = [uri.rpartition("/")[2] in errors for uri in rows["uri"].to_pylist()]
    known = rows.append_column("status", pa.array(["error" if each else "ok" for each in failed]))
    known = known.append_column("run_id", pa.array([run.layout.run_id] * rows.num_rows))
    for shard in run.manifest.shard_sizes():
        here = known.filter(pa.array([number == shard for number in rows["shard"].to_pylist()]))
        storage.write_bytes(run.layout.shard(shard), encode(here))
    storage.write_bytes(run.layout.report, b"report")


def names(todo: RunPlan) -> str:
    return "".join(uri.rpartition("/")[2] for uri in todo.new["uri"].to_pylist())


def test_an_empty_output_lacks_everything(tmp_path: Path) -> None:
    todo = plan_run(items("abc"), str(tmp_path), TABLES, "c")
    assert (names(todo), todo.already_done, todo.unfinished, todo.last_run) == ("abc", 0, [], None)
    assert (todo.next_number, todo.retried, todo.items_left, todo.table) == (1, 0, 0, "labels")


def test_items_of_a_run_wait_until_it_is_finished_and_are_done_then(tmp_path: Path) -> None:
    run = freeze(plan_run(items("abc"), str(tmp_path), TABLES, "c"))
    waiting = plan_run(items("bcde"), str(tmp_path), TABLES, "c")
    assert (names(waiting), waiting.already_done, waiting.items_left) == ("de", 0, 3)
    assert (waiting.last_run, waiting.next_number) == ("run-000001", 2)
    finish(run)
    done = plan_run(items("bcde"), str(tmp_path), TABLES, "c")
    assert (names(done), done.already_done, done.items_left) == ("de", 2, 0)
    other = plan_run(items("bcde"), str(tmp_path), TABLES, "another configuration")
    assert (names(other), other.already_done, other.last_run) == ("bcde", 0, None)


def test_a_changed_item_is_new(tmp_path: Path) -> None:
    finish(freeze(plan_run(items("ab"), str(tmp_path), TABLES, "c")))
    changed = pa.concat_tables([items("a"), items("b", size=2)])
    todo = plan_run(changed, str(tmp_path), TABLES, "c")
    assert (names(todo), todo.already_done, todo.retried) == ("b", 1, 0)


@pytest.mark.parametrize("versions", [[{"size": 1}, {"size": 2}], [{"etag": "v1"}, {"etag": "v2"}]])
def test_an_item_that_was_put_back_to_an_earlier_version_is_new(versions: list[dict[str, Any]], tmp_path: Path) -> None:
    for version in [*versions, versions[0], versions[1]]:
        todo = plan_run(items("a", **version), str(tmp_path), TABLES, "c")
        assert (names(todo), todo.already_done) == ("a", 0)
        finish(freeze(todo))
        assert names(plan_run(items("a", **version), str(tmp_path), TABLES, "c")) == ""


def test_what_an_unfinished_run_has_in_another_version_is_not_done(tmp_path: Path) -> None:
    finish(freeze(plan_run(items("ab"), str(tmp_path), TABLES, "c")))
    waiting = freeze(plan_run(items("a", size=2), str(tmp_path), TABLES, "c"))
    todo = plan_run(items("ab"), str(tmp_path), TABLES, "c")
    assert (names(todo), todo.already_done) == ("a", 1)
    finish(waiting)
    assert names(plan_run(items("ab"), str(tmp_path), TABLES, "c")) == "a"


@pytest.mark.parametrize(("limit", "expected", "retried"), [(None, "bde", 2), (1, "b", 1), (0, "", 0)])
def test_errors_are_new_again_where_that_is_asked(
    limit: int | None, expected: str, retried: int, tmp_path: Path
) -> None:
    finish(freeze(plan_run(items("abcd"), str(tmp_path), TABLES, "c")), errors="bd")
    assert names(plan_run(items("abcde"), str(tmp_path), TABLES, "c")) == "e"
    todo = plan_run(items("abcde"), str(tmp_path), TABLES, "c", retry_errors=True, limit=limit)
    assert (names(todo), todo.retried, todo.already_done) == (expected, retried, 2)


def test_an_error_that_waits_in_another_run_is_not_asked_for_twice(tmp_path: Path) -> None:
    finish(freeze(plan_run(items("ab"), str(tmp_path), TABLES, "c")), errors="b")
    freeze(plan_run(items("ab"), str(tmp_path), TABLES, "c", retry_errors=True))
    todo = plan_run(items("ab"), str(tmp_path), TABLES, "c", retry_errors=True)
    assert (names(todo), todo.retried, todo.already_done, todo.items_left) == ("", 0, 1, 1)


def test_rejected_items_are_planned_once_more_and_then_done(tmp_path: Path) -> None:
    finish(freeze(plan_run(items("abc"), str(tmp_path), TABLES, "c")))
    ids = {name: image_id(f"s3://b/{name}") for name in "abc"}
    redo = {ids["a"]: "run-000001", ids["c"]: "run-000001"}
    todo = plan_run(items("abcd"), str(tmp_path), TABLES, "c", redo=redo)
    assert (names(todo), todo.retried, todo.already_done) == ("acd", 0, 1)
    finish(freeze(todo))
    todo = plan_run(items("abcd"), str(tmp_path), TABLES, "c", redo=redo)
    assert (names(todo), todo.already_done) == ("", 4)
    again = plan_run(items("abcd"), str(tmp_path), TABLES, "c", redo={ids["a"]: "run-000002", ids["b"]: ""})
    assert names(again) == "ab"
    other = plan_run(items("abcd"), str(tmp_path), TABLES, "another configuration", redo=redo)
    assert names(other) == "abcd"


def test_items_without_a_version_are_told_apart_by_name(tmp_path: Path) -> None:
    """Samples, say: they have no file."""
    unversioned = [inputs_table(storage.FileInfo(uri=f"sample:0/{name}") for name in some) for some in ("ab", "abc")]
    run = freeze(plan_run(unversioned[0], str(tmp_path), TABLES, "c"))
    assert names(plan_run(unversioned[1], str(tmp_path), TABLES, "c")) == "c"
    finish(run)
    todo = plan_run(unversioned[1], str(tmp_path), TABLES, "c")
    assert (names(todo), todo.already_done) == ("c", 2)


def test_what_is_forgotten_while_a_plan_waits_is_left_out(tmp_path: Path) -> None:
    tars = items("cd").append_column("unit", pa.array(["tar", "tar"]))
    tars = tars.append_column("inside", pa.nulls(2, pa.string()))
    todo = plan_run(tars, str(tmp_path), TABLES, "c")
    singles = pa.array([["s3://b/d#1", "s3://b/d#2"]] * 2)
    todo = replace(todo, new=todo.new.append_column("without", singles))
    record_forgotten(str(tmp_path), ["s3://b/c", "s3://b/d#1"])
    run = freeze_new(todo, {}, shard_size=2, chunk_size=1)
    assert run is not None
    (row,) = run.manifest.items.to_pylist()
    assert (row["uri"], row["unit"], row["without"]) == ("s3://b/d", "tar", ["s3://b/d#2"])
    assert run.info.config["shards"] == 1


def test_a_plan_of_which_everything_is_forgotten_makes_no_run(tmp_path: Path) -> None:
    todo = plan_run(items("ab"), str(tmp_path), TABLES, "c")
    record_forgotten(str(tmp_path), ["s3://b/a", "s3://b/b"])
    assert freeze_new(todo, {}, shard_size=2, chunk_size=1) is None
    assert find_runs(str(tmp_path), "labels", "c") == []
    assert names(plan_run(items("ab"), str(tmp_path), TABLES, "c")) == ""
