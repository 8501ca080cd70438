"""Images whose processes die of a segmentation fault, on a real cluster."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from ddpm_seg import storage
from ddpm_seg.cluster.nodes import Allocation
from ddpm_seg.errors import StageError
from ddpm_seg.pipeline import isolate, stream
from ddpm_seg.runs.parquet import decode
from tests.pipeline.stand_in import carry_out, frozen_run


@pytest.mark.slow
def test_a_killer_in_any_stage_is_an_error_row_and_its_neighbours_succeed(
    ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolate, "DEATHS_TO_BLAME", 2)  # each death costs seconds
    monkeypatch.setattr(isolate, "KILLERS_IN_A_ROW", 2)  # of three in all, but between two of them others succeed
    monkeypatch.setattr(stream, "TASK_RETRIES", 0)
    names = [f"{index:02d}" for index in range(24)]
    for index, stage in [(5, "before"), (10, "actor"), (21, "after")]:
        names[index] += f".kills_{stage}"
    run = frozen_run(tmp_path / "out", names, shard_size=8, chunk_size=4)
    # The process that has the chunks alone needs the CPUs of the actor that had them before.
    most_of_it = Allocation(actors=1, actor_cpus=1.5, actor_gpus=0, threads=1, task_cpus=0.25)
    outcome = carry_out(run, tmp_path / "notes", allocation=most_of_it)
    shards = [decode(storage.read_bytes(run.layout.shard(shard))) for shard in range(3)]
    rows = pa.concat_tables(shards).to_pylist()
    assert [row["name"] for row in rows] == names
    for index, row in enumerate(rows):
        assert (row["error_type"] == "killed_worker") == (index in (5, 10, 21))
        # Of a chunk with a killer each image is done alone; of any other, the chunk as in a run without killers.
        assert row["batch"] == (1 if index // 4 in (1, 2, 5) else 4)
    assert outcome.counts == {"ok": 21, "killed_worker": 3}


@pytest.mark.slow
def test_a_chunk_whose_processes_die_by_chance_is_done_as_ever(
    ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "TASK_RETRIES", 0)
    names = ["0", "1.dies_3_times"]  # once with others at work, and twice alone
    run = frozen_run(tmp_path / "out", names, shard_size=2, chunk_size=2)
    outcome = carry_out(run, tmp_path / "notes")
    assert len(list((tmp_path / "notes").glob("1.dies_3_times-*"))) == 3
    assert outcome.counts == {"ok": 2}
    assert decode(storage.read_bytes(run.layout.shard(0)))["batch"].to_pylist() == [2, 2]


def test_a_cluster_where_everything_dies_blames_no_image(
    ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolate, "KILLERS_IN_A_ROW", 2)
    monkeypatch.setattr(isolate, "DEATHS_TO_BLAME", 1)
    monkeypatch.setattr(stream, "TASK_RETRIES", 0)
    run = frozen_run(tmp_path / "out", [f"{index}.kills_actor" for index in range(4)], shard_size=4, chunk_size=4)
    with pytest.raises(StageError, match=r"2 images in a row.*the cluster is the more likely cause"):
        carry_out(run, tmp_path / "notes")
    assert run.planned().finished_chunks() == set()
