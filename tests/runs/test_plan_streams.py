"""Plans made batch by batch are those that a plain reading of the definitions gives, for random listings and runs."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ddpm_seg import spool as spools
from ddpm_seg import storage
from ddpm_seg.runs import manifest as manifests
from ddpm_seg.runs import plan as plans
from ddpm_seg.runs.ledger import KnownRun
from ddpm_seg.runs.manifest import inputs_spool, inputs_table
from ddpm_seg.runs.parquet import encode
from ddpm_seg.runs.plan import RunPlan, freeze_new, plan_run
from ddpm_seg.runs.upkeep.forgotten import record_forgotten
from ddpm_seg.storage import FileInfo

NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)
TABLES = "labels", "class_stats"
NAMES = [f"{letter}-{number}" for letter in "abcé" for number in range(3)]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "BATCH_ROWS", 2)
    monkeypatch.setattr(manifests, "SORTED_ROWS", 4)
    monkeypatch.setattr(spools, "MERGED_ROWS", 3)
    monkeypatch.setattr(plans, "BATCH_ROWS", 3)
    monkeypatch.setattr(plans, "MOST_IN_RUN", 4)


def some_files(chance: random.Random) -> list[FileInfo]:
    """Files in random order, with versions that a later listing may repeat."""
    kinds: list[dict[str, Any]] = [
        {"etag": "x", "size_bytes": 1, "modified": NOW},
        {"etag": "y", "size_bytes": 1, "modified": NOW},
        {"etag": "y"},
        {"size_bytes": 1, "modified": NOW},
        {"size_bytes": 2, "modified": NOW},
        {"modified": NOW},
        {},
    ]
    names = chance.sample(NAMES, chance.randint(1, len(NAMES)))
    return [FileInfo(uri=f"s3://b/{name}", **chance.choice(kinds)) for name in names]


def publish(run: KnownRun, chance: random.Random) -> None:
    """Writes the run's shards, except some that somebody deleted, as if some images had changed before they were
    read; and mostly the report."""
    for shard, rows in _by_shard(run).items():
        if chance.random() < 0.15:
            continue
        table = pa.Table.from_pylist(
            [
                {
                    **{name: row[name] for name in ("image_id", "uri", "size_bytes")},
                    "etag": chance.choice([row["etag"], row["etag"], "x", None]),
                    "status": chance.choice(["ok", "ok", "error"]),
                    "run_id": run.layout.run_id,
                }
                for row in rows
            ],
            pa.schema(
                [(name, pa.string()) for name in ("image_id", "uri", "etag", "status", "run_id")]
                + [("size_bytes", pa.int64())]
            ),
        )
        storage.write_bytes(run.layout.shard(shard), encode(table))
    if chance.random() < 0.75:
        storage.write_bytes(run.layout.report, b"report")


def _by_shard(run: KnownRun) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in run.manifest.items.to_pylist():
        found.setdefault(row["shard"], []).append(row)
    return found


class Definitions:
    """What is new, by the words of the documentation, with everything in dictionaries."""

    def __init__(self, runs: list[KnownRun]) -> None:
        self.planned: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        self.latest: dict[str, dict[str, Any]] = {}
        for run in runs:
            finished = storage.exists(run.layout.report)
            for shard, rows in _by_shard(run).items():
                uri = run.layout.shard(shard)
                if storage.exists(uri):
                    for row in pa.parquet.read_table(uri, partitioning=None).to_pylist():
                        self.latest[row["image_id"]] = row
                if not finished or storage.exists(uri):
                    self.planned[finished] += rows

    def state(self, item: dict[str, Any], *, retry_errors: bool, redo: dict[str, str]) -> str:
        if self._planned_now(item, finished=False):
            return "waiting"
        if self._mine(item, finished=False) or not self._published(item):
            return "new"
        latest = self.latest.get(item["image_id"])
        if retry_errors and latest is not None and latest["status"] == "error":
            return "again"
        judged = redo.get(item["image_id"])
        later = judged and latest is not None and latest["run_id"] > judged
        return "redo" if judged is not None and not later else "done"

    def _mine(self, item: dict[str, Any], finished: bool) -> list[dict[str, Any]]:
        """What the last run of this kind that has the item planned: nothing or one row."""
        return [row for row in self.planned[finished] if row["image_id"] == item["image_id"]][-1:]

    def _planned_now(self, item: dict[str, Any], *, finished: bool) -> bool:
        mine = self._mine(item, finished)
        unknown_then = any(_version(row) is None for row in mine) and not finished
        return unknown_then or any(_version(item) in (None, _version(row)) for row in mine)

    def _published(self, item: dict[str, Any]) -> bool:
        if self._planned_now(item, finished=True):
            return True
        mine, read = self._mine(item, True), self.latest.get(item["image_id"])
        if not mine or read is None:
            return False
        if read["etag"] is not None:
            return bool(read["etag"] == item["etag"])
        unknown_then = any(_version(row) is None for row in mine)
        return unknown_then and read["size_bytes"] is not None and read["size_bytes"] == item["size_bytes"]


def _version(row: dict[str, Any]) -> object:
    if row["etag"] is not None:
        return row["etag"]
    return None if row["size_bytes"] is None and row["modified"] is None else (row["size_bytes"], row["modified"])


def all_new(todo: RunPlan) -> list[dict[str, Any]]:
    later = [pa.table(batch) for batch in todo.later.batches()] if todo.later else []
    return [row for table in (todo.new, *later) for row in table.select(todo.new.column_names).to_pylist()]


def freeze_all(todo: RunPlan) -> Iterator[KnownRun]:
    while todo.new.num_rows:
        run = freeze_new(todo, {}, shard_size=3, chunk_size=2)
        assert run is not None
        yield run
        todo = todo.following(run)


@pytest.mark.parametrize("seed", range(30))
def test_what_is_new_follows_from_the_definitions(seed: int, tmp_path: Path) -> None:
    chance, output, runs = random.Random(seed), str(tmp_path), list[KnownRun]()
    for _ in range(chance.randint(0, 3)):
        first = plan_run(inputs_spool(some_files(chance)), output, TABLES, "c")
        for run in freeze_all(first):
            publish(run, chance)
            runs.append(run)
    forgotten = chance.sample([f"s3://b/{name}" for name in NAMES], chance.choice([0, 0, 2]))
    if forgotten:
        record_forgotten(output, forgotten)
    listed, retry = some_files(chance), chance.random() < 0.5
    items = [row for row in inputs_table(listed).to_pylist() if row["uri"] not in forgotten]
    redo = {row["image_id"]: chance.choice(["", "run-000001"]) for row in items if chance.random() < 0.3}
    limit = chance.choice([None, None, 0, 3, 6])

    known = Definitions(runs)
    states = [known.state(item, retry_errors=retry, redo=redo) for item in items]
    left = [(item, state) for item, state in zip(items, states, strict=True) if state in ("new", "again", "redo")]
    left = left[:limit]
    for given in (inputs_spool(listed), inputs_table(listed)):
        todo = plan_run(given, output, TABLES, "c", retry_errors=retry, redo=redo, limit=limit)
        assert all_new(todo) == [item for item, _ in left]
        assert (todo.items_new, todo.already_done) == (len(left), states.count("done"))
        assert todo.retried == sum(state == "again" for _, state in left)
        assert todo.new.num_rows == min(len(left), plans.MOST_IN_RUN)


@pytest.mark.parametrize("order", ["sorted", "reversed", "shuffled", "folders in another order"])
def test_a_listing_in_any_order_is_one_sorted_list(order: str) -> None:
    names = [f"s3://b/{folder}/{number:03}.jpg" for folder in ("a", "a-b", "a.c", "é", "z") for number in range(17)]
    given = {
        "sorted": sorted(names),
        "reversed": sorted(names, reverse=True),
        "shuffled": random.Random(0).sample(names, len(names)),
        "folders in another order": names[34:] + names[:34],
    }[order]
    found = inputs_spool(FileInfo(uri=name, size_bytes=number) for number, name in enumerate(given))
    assert found.table()["uri"].to_pylist() == sorted(names, key=str.encode)
    assert found.table()["size_bytes"].to_pylist() == [given.index(name) for name in sorted(names, key=str.encode)]
    assert found.read(5, 9).to_pylist() == found.table().slice(5, 4).to_pylist()


@pytest.mark.parametrize("apart", [1, 40])
def test_two_inputs_of_one_name_are_refused_wherever_they_are(apart: int) -> None:
    files = [FileInfo(uri=f"https://h/{number:02}.jpg") for number in range(60)]
    files.insert(5 + apart, replace(files[5], uri="https://h/05.jpg?token=x"))
    with pytest.raises(ValueError, match=r"differ only in their query string or credentials.*05\.jpg"):
        inputs_spool(files)
