"""Whole runs on a real cluster, with stages of known output, whatever fails on the way."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pyarrow as pa
import pytest
import ray
from ray.cluster_utils import Cluster

from ddpm_seg import storage
from ddpm_seg.cluster.nodes import Allocation
from ddpm_seg.errors import StageError, TooManyErrors
from ddpm_seg.pipeline import execute
from ddpm_seg.pipeline.execute import Outcome
from ddpm_seg.pipeline.publish import Shards
from ddpm_seg.pipeline.row import STAGES
from ddpm_seg.runs.layout import published_shards
from ddpm_seg.runs.ledger import KnownRun
from ddpm_seg.runs.parquet import decode, encode
from tests.pipeline.stand_in import ONE_ACTOR, carry_out, frozen_run, table

NAMES = [f"{index:02d}" for index in range(20)]
OUTPUTS = {"out": NAMES, "elsewhere": [f"other {index:02d}" for index in range(8)]}


def whole(run: KnownRun, names: list[str]) -> bool:
    """Whether the published tables hold each of `names` once, in order, with the right value."""
    columns = ["name", "value", "status", "error_type"]
    shards = [decode(storage.read_bytes(run.layout.shard(shard))) for shard in run.manifest.shard_sizes()]
    return pa.concat_tables(shards).select(columns).equals(table(names).select(columns))


@contextmanager
def node_that_dies(when: Callable[[], bool]) -> Iterator[None]:
    """A second node of the cluster, of 2 CPUs, that is killed in the midst of the block."""
    cluster = Cluster()
    cluster.head_node, cluster.redis_address = ray._private.worker._global_node, None
    node = cluster.add_node(num_cpus=2)
    killed = Event()

    def kill() -> None:
        while not when():
            time.sleep(0.1)
        cluster.remove_node(node, allow_graceful=False)
        killed.set()

    killer = Thread(target=kill, daemon=True)
    killer.start()
    yield
    assert killed.is_set()
    while sum(each["Alive"] for each in ray.nodes()) > 1:  # the next test's job may not count it
        time.sleep(0.1)


def test_a_warning_tells_that_actors_compute_in_different_ways(caplog: pytest.LogCaptureFixture) -> None:
    outcome, seconds = Outcome(), {f"{stage}_seconds": 1.0 for stage in STAGES}
    for computed_by in ("AVX2", "", "AVX2", "AVX512", "AVX2", "AVX512"):
        outcome.add({**seconds, "computed_by": computed_by}, images=1)
    assert outcome.computed_by == {"AVX2", "AVX512"}
    (warning,) = (record.getMessage() for record in caplog.records)
    assert "AVX2; AVX512" in warning


def test_waves_come_one_after_another(ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "WAVE_CHUNKS", 2)
    run = frozen_run(tmp_path / "out", NAMES, shard_size=8, chunk_size=4)
    outcome = carry_out(run, tmp_path / "notes")
    assert whole(run, NAMES)
    assert (outcome.counts, outcome.timed) == ({"ok": 20}, 20)
    assert outcome.seconds["read"] == outcome.seconds["segment"] == 5
    assert published_shards(run.layout) == published_shards(run.layout, "names") == {0, 1, 2}
    assert len(list((tmp_path / "notes").glob("loaded-*"))) == 3


def test_an_actor_without_a_chunk_is_not_started(ray_cluster: str, tmp_path: Path) -> None:
    run, two = frozen_run(tmp_path / "out", NAMES, shard_size=20, chunk_size=20), replace(ONE_ACTOR, actors=2)
    carry_out(run, tmp_path / "notes", allocation=replace(two, actor_cpus=0.5))
    assert whole(run, NAMES)
    assert len(list((tmp_path / "notes").glob("loaded-*"))) == 1


@pytest.mark.slow
def test_no_stage_runs_far_ahead_of_the_next(ray_cluster: str, tmp_path: Path) -> None:
    run, notes = frozen_run(tmp_path / "out", NAMES, shard_size=20, chunk_size=1), tmp_path / "notes"
    notes.mkdir()
    (notes / "no writing").touch()
    segmented: list[int] = []

    def write_again_once_nothing_moves() -> None:
        while len(segmented) < 4 or segmented[-1] == 0 or segmented[-1] != segmented[-4]:
            segmented.append(len(list(notes.glob("segmented-*"))))
            time.sleep(1)
        (notes / "no writing").unlink()

    releaser = Thread(target=write_again_once_nothing_moves, daemon=True)
    releaser.start()
    carry_out(run, notes)
    releaser.join()
    # Two in writers, two that wait for one, two in the actor.
    assert segmented[-1] <= 6
    assert whole(run, NAMES)


def test_what_a_stage_raises_ends_the_run_at_once_and_is_named(ray_cluster: str, tmp_path: Path) -> None:
    run, notes = frozen_run(tmp_path / "out", NAMES, shard_size=8, chunk_size=4), tmp_path / "notes"
    notes.mkdir()
    causes = {"full": "OSError: .*No space left on device", "no model": "ValueError: no model here"}
    for cause, message in causes.items():
        (notes / cause).touch()
        with pytest.raises(StageError, match=rf"^run-000001 shard-0000\d chunk-000\d: {message}$"):
            carry_out(run, notes)
        (notes / cause).unlink()
    carry_out(run, notes)
    assert whole(run, NAMES)


def test_a_process_that_dies_while_it_loads_is_not_started_for_ever(ray_cluster: str, tmp_path: Path) -> None:
    run, notes = frozen_run(tmp_path / "out", NAMES, shard_size=8, chunk_size=4), tmp_path / "notes"
    notes.mkdir()
    (notes / "die loading").touch()
    with pytest.raises(StageError, match="died 3 times while it loaded the model"):
        carry_out(run, notes)
    assert len(list(notes.glob("loaded-*"))) == 3


def test_errors_over_the_limit_end_the_run_and_those_of_earlier_attempts_count(
    ray_cluster: str, tmp_path: Path
) -> None:
    names = [f"{name}.error_{'ab'[index % 2]}" if index < 10 else name for index, name in enumerate(NAMES)]
    run, notes = frozen_run(tmp_path / "out", names, shard_size=8, chunk_size=2), tmp_path / "notes"
    with pytest.raises(TooManyErrors, match=r"^6 of the first \d+ images of run-000001 have errors \(3 error_\w, 3 "):
        carry_out(run, notes, max_errors=5)
    with pytest.raises(TooManyErrors, match="and 5 are allowed"):
        carry_out(run, tmp_path / "second", max_errors=5)
    assert not list((tmp_path / "second").iterdir())  # nothing was begun
    standing = 8 * len(published_shards(run.layout)) + 2 * len(run.planned().finished_chunks())
    outcome = carry_out(run, notes, max_errors=10)
    assert outcome.counts == {"ok": 10, "error_a": 5, "error_b": 5}
    assert 0 < standing <= 20 - outcome.timed  # what stands is not done again
    assert whole(run, names)


def test_an_actor_that_is_killed_loses_and_doubles_nothing(ray_cluster: str, tmp_path: Path) -> None:
    names = [*NAMES[:9], "09.dies_1_times", *NAMES[10:]]
    run = frozen_run(tmp_path / "out", names, shard_size=8, chunk_size=4)
    assert carry_out(run, tmp_path / "notes").counts == {"ok": 20}
    assert whole(run, names)
    assert len(list((tmp_path / "notes").glob("loaded-*"))) == 2


def test_what_others_left_under_the_runs_name_is_done_again(ray_cluster: str, tmp_path: Path) -> None:
    """A shard and chunks of other images with the right numbers of rows, and one that is no table at all."""
    run, elsewhere = (frozen_run(tmp_path / name, names, shard_size=8, chunk_size=4) for name, names in OUTPUTS.items())
    carry_out(elsewhere, tmp_path / "notes")
    foreign = decode(storage.read_bytes(elsewhere.layout.shard(0)))
    storage.write_bytes(run.layout.shard(0), encode(foreign))
    storage.write_bytes(run.layout.shard(0, "names"), encode(foreign.select(["name"])))
    planned = run.planned()
    storage.write_bytes(planned.chunk(1, 0), encode(foreign.slice(0, 4)))
    storage.write_bytes(planned.chunk(1, 1), b"no table")
    of_old_release = f"{run.layout.chunks}/run={run.layout.run_id}/shard-00002/chunk-0000.parquet"
    storage.write_bytes(of_old_release, encode(foreign.slice(0, 4)))
    outcome = carry_out(run, tmp_path / "notes")
    assert (outcome.counts, outcome.timed) == ({"ok": 20}, 20)
    assert whole(run, NAMES)
    assert [storage.exists(uri) for uri in (of_old_release, planned.chunk(1, 0))] == [False, False]
    names = decode(storage.read_bytes(run.layout.shard(0, "names")))
    assert names["name"].to_pylist() == NAMES[:8]


def test_a_chunk_replaced_after_it_was_written_is_found_out_and_counted_once(
    ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, elsewhere = (frozen_run(tmp_path / name, names, shard_size=8, chunk_size=4) for name, names in OUTPUTS.items())
    carry_out(elsewhere, tmp_path / "notes")
    foreign = decode(storage.read_bytes(elsewhere.layout.shard(0))).slice(0, 4)
    planned, finished = run.planned(), Shards.finished
    planted: list[tuple[int, int]] = []

    def plant_and_go_on(self: Shards, shard: int, chunk: int) -> bool:
        if chunk == 1 and len(planted) < 2:
            planted.append((shard, chunk))
            storage.write_bytes(planned.chunk(shard, chunk), encode(foreign))
        return finished(self, shard, chunk)

    monkeypatch.setattr(Shards, "finished", plant_and_go_on)
    outcome = carry_out(run, tmp_path / "notes")
    assert outcome.counts == {"ok": 20}
    assert outcome.timed == 20 + 4 * len(planted)
    assert whole(run, NAMES)


def test_stages_whose_rows_are_never_the_plans_end_the_run(
    ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = frozen_run(tmp_path / "out", NAMES[:4], shard_size=8, chunk_size=4)
    with pytest.raises(StageError, match=r"the chunks of shard-00000 of run-000001 were made 3 times"):
        carry_out(run, tmp_path / "notes", model_id="another model than the stages say")
    assert published_shards(run.layout) == set()


@pytest.mark.parametrize("back", [False, True], ids=["gone", "another plan"])
def test_an_output_that_goes_away_during_the_work_ends_the_run(back: bool, ray_cluster: str, tmp_path: Path) -> None:
    output, away, notes = tmp_path / "out", tmp_path / "away", tmp_path / "notes"
    run = frozen_run(output, NAMES, shard_size=8, chunk_size=2)

    def move_away() -> None:
        while not run.planned().finished_chunks():
            time.sleep(0.05)
        output.rename(away)
        if back:
            frozen_run(output, NAMES, shard_size=8, chunk_size=2)

    mover = Thread(target=move_away, daemon=True)
    mover.start()
    with pytest.raises(
        StageError, match=r"runs/run-000001/manifest\.parquet, the plan of this run, (no longer exists|has changed)"
    ):
        carry_out(run, notes, seconds=0.5)
    mover.join()
    assert not list(output.rglob("shard-*.parquet"))
    assert not list(output.rglob("chunk-*.parquet"))
    if output.exists():
        shutil.rmtree(output)
    away.rename(output)
    assert carry_out(run, notes).timed < 20  # the chunks that were done are this plan's, wherever they were meanwhile
    assert whole(run, NAMES)


@pytest.mark.slow  # half a minute; the chaos runs lose nodes, too
def test_a_node_that_is_killed_loses_and_doubles_nothing(ray_cluster: str, tmp_path: Path) -> None:
    names = [f"{index:02d}" for index in range(32)]
    run, notes = frozen_run(tmp_path / "out", names, shard_size=8, chunk_size=2), tmp_path / "notes"
    # An actor on each of two nodes, and room beside each for a task.
    allocation = Allocation(actors=2, actor_cpus=1.5, actor_gpus=0, threads=1, task_cpus=0.5)

    def both_work() -> bool:
        return len(list(notes.glob("loaded-*"))) == 2 and bool(run.planned().finished_chunks())

    with node_that_dies(both_work):
        outcome = carry_out(run, notes, allocation=allocation, seconds=0.3)
    assert outcome.counts == {"ok": 32}
    assert whole(run, names)
