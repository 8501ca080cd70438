"""Tests that the harness notices what it should; then, as slow tests, a few disturbed runs."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from ddpm_seg import storage
from ddpm_seg.data.schema import class_stats_table, labels_schema
from ddpm_seg.runs.parquet import decode, encode
from tests.chaos.campaign import deal, deal_evenly
from tests.chaos.commit_steps import Step, Trap
from tests.chaos.comparison import compare, read_rows
from tests.chaos.faults import faults_of
from tests.chaos.journal import cost, images_segmented, read_journal
from tests.chaos.place import CHECKOUT, HOOKS
from tests.chaos.room import can_mount, small_disk
from tests.chaos.subject import SUBJECTS
from tests.tiny_bundle import TASK

LABEL = SUBJECTS["label"]
SHARD = "config=c/run=run-000001/shard-00000.parquet"


# --- the comparison ---


@pytest.fixture
def output(tmp_path: Path) -> str:
    """A finished run of three images, of which the last is unreadable."""
    classes = [{"class_id": 1, "class_name": "red", "pixels": 4}]
    own = {"config_hash": "c", "run_id": "run-000001", "model_id": "m"}
    rows: list[dict[str, Any]] = [
        own | {"image_id": name, "uri": name, "status": "ok", "mask": {"bytes": b"png"}, "classes": classes}
        for name in "ab"
    ]
    rows.append(own | {"image_id": "c", "uri": "c", "status": "error", "error_type": "empty"})
    write(str(tmp_path), pa.Table.from_pylist(rows, schema=labels_schema(TASK)))
    run = tmp_path / "runs" / "run-000001"
    for name in ("manifest.parquet", "run.json", "report.html"):
        storage.write_bytes(str(run / name), b"")
    storage.write_bytes(str(run / "summary.json"), json.dumps({"images": 3, "ok": 2}).encode())
    return str(tmp_path)


def write(output: str, labels: pa.Table) -> None:
    storage.write_bytes(f"{output}/labels/{SHARD}", encode(labels))
    storage.write_bytes(f"{output}/class_stats/{SHARD}", encode(class_stats_table(labels)))


def test_an_output_is_as_itself(output: str) -> None:
    verdict = compare(read_rows(output, "labels"), output, LABEL)
    assert (verdict.lost, verdict.doubled, verdict.differing, verdict.problems) == (0, 0, 0, ())


def test_lost_doubled_and_different_rows_are_seen(output: str) -> None:
    reference, labels = read_rows(output, "labels"), decode(storage.read_bytes(f"{output}/labels/{SHARD}"))
    write(output, pa.concat_tables([labels.slice(0, 1), labels.slice(0, 2)]))
    verdict = compare(reference, output, LABEL)
    assert (verdict.lost, verdict.doubled, verdict.differing, verdict.problems) == (1, 1, 0, ())
    rows = labels.to_pylist()
    rows[1]["mask"]["bytes"] = b"another"
    write(output, pa.Table.from_pylist(rows, schema=labels.schema))
    verdict = compare(reference, output, LABEL)
    assert (verdict.lost, verdict.doubled, verdict.differing, verdict.problems) == (0, 0, 1, ())


def test_rows_under_a_wrong_model_id_are_seen(output: str) -> None:
    reference, labels = read_rows(output, "labels"), decode(storage.read_bytes(f"{output}/labels/{SHARD}"))
    rows = labels.to_pylist()
    rows[0]["mask"]["bytes"] = b"of another"
    rows[1]["model_id"] = "n"
    write(output, pa.Table.from_pylist(rows, schema=labels.schema))
    verdict = compare(reference, output, LABEL, other_masks=[{"a": b"of another"}])
    assert (verdict.differing, verdict.wrong_model, verdict.problems) == (2, 2, ())
    assert compare(reference, output, LABEL).wrong_model == 1  # a mask that none of the known models made


def test_rows_of_a_run_whose_plan_was_deleted_are_earlier_versions(output: str) -> None:
    reference, labels = read_rows(output, "labels"), decode(storage.read_bytes(f"{output}/labels/{SHARD}"))
    for table in ("labels", "class_stats"):
        shard = storage.read_bytes(f"{output}/{table}/{SHARD}")
        storage.write_bytes(f"{output}/{table}/{SHARD.replace('run-000001', 'run-000000')}", shard)
    assert compare(reference, output, LABEL).doubled == labels.num_rows
    verdict = compare(reference, output, LABEL, deleted="run-000000")
    assert (verdict.lost, verdict.doubled, verdict.differing, verdict.problems) == (0, 0, 0, ())


def test_a_row_of_another_run_than_its_shard_is_seen(output: str) -> None:
    reference, labels = read_rows(output, "labels"), decode(storage.read_bytes(f"{output}/labels/{SHARD}"))
    rows = labels.to_pylist()
    rows[2]["run_id"] = "run-000002"
    write(output, pa.Table.from_pylist(rows, schema=labels.schema))
    (found,) = compare(reference, output, LABEL).problems
    assert "has rows of ['run-000002']" in found


@pytest.mark.parametrize(
    ("path", "data", "problem"),
    [
        ("_chunks/run=run-000001/shard-00000/chunk-0000.parquet", b"", "left behind: /_chunks/"),
        (f"labels/.ddpm_seg-{'0' * 32}.tmp", b"", "left behind: /labels/"),
        ("runs/run-000002/manifest.parquet", b"", "where 1 are expected"),
        ("runs/run-000001/heartbeat.json", b"", "too many"),
        ("runs/run-000001/summary.json", b'{"images": 3, "ok": 3}', "3 images, 3 ok; there are 3, 2 ok"),
        (f"class_stats/{SHARD}", None, "class_stats"),
    ],
)
def test_what_else_is_wrong_is_named(path: str, data: bytes | None, problem: str, output: str) -> None:
    reference = read_rows(output, "labels")
    if data is None:
        storage.delete(f"{output}/{path}")
    else:
        storage.write_bytes(f"{output}/{path}", data)
    (found,) = compare(reference, output, LABEL).problems
    assert problem in found


# --- death at a call to `storage` ---


def create_two_files(folder: Path, *, victim: str = "self", driver: int = 0, when: str = "") -> tuple[int, set[str]]:
    """Exit status of a process that creates "a" and "b" and may be killed at "a"; and the files that exist
    afterwards."""
    chaos = folder / "chaos"
    chaos.mkdir(exist_ok=True)
    (chaos / "driver.pid").write_text(str(driver))
    if when:
        trigger = {"call": "create_bytes", "when": when, "uri": "/a$", "victim": victim}
        (chaos / "trigger.json").write_text(json.dumps(trigger))
    with two_files_created(folder) as process:
        process.wait(100)
    return process.returncode, {path.name[:10] for path in (folder / "out").glob("*")}


@contextmanager
def two_files_created(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    code = "import sys; from ddpm_seg import storage; [storage.create_bytes(f'{sys.argv[1]}/{n}', b'x') for n in 'ab']"
    environment = {**os.environ, "PYTHONPATH": f"{HOOKS}{os.pathsep}{CHECKOUT}", "CHAOS_FOLDER": str(folder / "chaos")}
    with subprocess.Popen([sys.executable, "-c", code, str(folder / "out")], env=environment) as process:
        yield process


@pytest.mark.parametrize(
    ("when", "left"), [("before", set()), ("during", {".ddpm_seg-"}), ("after", {"a"})], ids=lambda value: str(value)
)
def test_a_process_dies_at_its_call_and_only_once(when: str, left: set[str], tmp_path: Path) -> None:
    assert create_two_files(tmp_path, when=when) == (-signal.SIGKILL, left)
    assert create_two_files(tmp_path) == (0, left | {"a", "b"})
    calls = [(event.call, event.when, event.subject[-1]) for event in read_journal(tmp_path / "chaos" / "journal")]
    first = [("create_bytes", "before", "a")]  # a process that dies afterwards writes nothing more
    assert calls == first + [("create_bytes", moment, name) for name in "ab" for moment in ("before", "after")]


def test_the_driver_dies_and_who_took_the_step_goes_on(tmp_path: Path) -> None:
    driver = subprocess.Popen(["sleep", "100"])
    assert create_two_files(tmp_path, when="before", victim="driver", driver=driver.pid) == (0, {"a", "b"})
    assert driver.wait(10) == -signal.SIGKILL


def test_a_step_is_held_up_until_it_is_released(tmp_path: Path) -> None:
    place = SimpleNamespace(folder=tmp_path / "chaos")
    place.folder.mkdir()
    trap = Trap(step=Step(name="", call="create_bytes", uri="/b$"), when="before", victim="hold")
    with two_files_created(tmp_path) as process:
        scene: Any = SimpleNamespace(
            place=place, job=process, output=str(tmp_path / "out"), generator=random.Random(0), plan=[(0, 0)]
        )
        assert trap.spring(scene) == str(tmp_path / "out" / "b")
        time.sleep(0.3)
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]
        assert process.poll() is None
        trap.release(scene)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b"]


@pytest.mark.skipif(not can_mount(), reason="only root can mount a disk")
def test_a_full_disk_stays_full_until_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        output = disk.new_output()
        storage.write_bytes(f"{output}/a", b"a")
        with disk.full():
            for _ in range(3):
                with pytest.raises(OSError, match=disk.says):
                    storage.write_bytes(f"{output}/b", b"b")
        storage.write_bytes(f"{output}/b", b"b")
        assert storage.read_bytes(f"{output}/b") == b"b"


def test_the_journal_tells_what_was_done_twice(tmp_path: Path) -> None:
    manifest = pa.table({"uri": ["/in/a", "/in/b", "/in/c"], "shard": [0, 0, 1], "chunk": [0, 0, 0]})
    chunk = "/out/_chunks/run=run-000001/shard-00000/chunk-0000.parquet"
    calls = [
        *[("read_bytes", "before", f"/in/{name}") for name in "abca"],  # the first chunk is fetched again
        ("segment", "before", "2"),
        ("segment", "before", "2"),
        ("create_bytes", "after", chunk),
        *[("read_bytes", "before", f"/in/{name}") for name in "ab"],  # and again, though it was done
    ]
    lines = [
        json.dumps({"time": time, "pid": 1, "call": call, "when": when, "subject": subject})
        for time, (call, when, subject) in enumerate(calls)
    ]
    (tmp_path / "journal").write_text("\n".join([*lines, '{"half a li']))
    events = read_journal(tmp_path / "journal")
    spent = cost(events, manifest, "/out", drivers={2})
    assert (images_segmented(events), spent.begun_again, spent.done_again) == (4, 2, 1)


# --- real runs ---


def test_small_campaigns_have_as_many_kinds_of_fault_as_they_can() -> None:
    faults = faults_of("s3", "label", several_nodes=True)
    dealt = list(islice(deal(faults, seed=1), 2 * len(faults)))
    assert set(map(str, dealt[: len(faults)])) == set(map(str, faults))
    assert all(fault.at_random for fault in dealt[len(faults) : len(faults) + 20])
    assert list(map(str, islice(deal(faults, seed=1), 2 * len(faults)))) == list(map(str, dealt))


def test_a_campaign_goes_on_with_the_kinds_of_fault_that_are_missing() -> None:
    faults = [fault for fault in faults_of("local", "label") if fault.kind in ("SIGTERM", "old manifest spoilt")]
    hand = list(map(str, deal_evenly(faults, 3, {"SIGTERM": 2})))
    put_back, deleted = "old manifest spoilt then put back", "old manifest spoilt then its run deleted"
    assert sorted(hand) == sorted(["SIGTERM near the end", put_back, deleted, put_back])


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    ("job", "kind", "names"),
    [
        ("generate", "local", ["actor killed", "driver killed at: shard published during"]),
        (
            "label",
            "local",
            ["actor killed", "driver killed at: chunk written after", "task killed at: shard published during"],
        ),
        ("label", "s3", ["node lost", "driver killed at: manifest created after", "store restarted"]),
        ("label", "local", ["bundle replaced at work, actors killed", "storage full: summary written"]),
        ("generate", "s3", ["SIGTERM at work", "output moved away and put back"]),
        ("generate-gan", "local", ["driver killed at: shard published during"]),
    ],
)
def test_disturbed_runs_end_as_undisturbed_ones(job: str, kind: str, names: list[str], tmp_path: Path) -> None:
    log = tmp_path / "chaos.jsonl"
    command = [sys.executable, "-m", "tests.chaos", f"--job={job}", f"--storage={kind}"]
    command += [f"--only=^({'|'.join(names)})$", "--images=60"]
    # In a separate process: Ray's test clusters would change the state of clusters in this one.
    done = subprocess.run([*command, f"--runs={len(names)}", f"--log={log}"], cwd=CHECKOUT, stdout=subprocess.PIPE)
    assert done.returncode == 0, done.stdout.decode()
    records = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted(record["fault"] for record in records) == sorted(names)
    assert all(record["struck"] for record in records), done.stdout.decode()
