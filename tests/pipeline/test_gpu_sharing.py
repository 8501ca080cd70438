"""Actors that share a GPU, on a real Ray cluster whose two GPUs are only counted."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from ddpm_seg import storage
from ddpm_seg.cluster import nodes
from ddpm_seg.pipeline.stream import Stages, stream
from ddpm_seg.runs.parquet import decode
from tests.pipeline.stand_in import frozen_run

Row = dict[str, Any]


class Where:
    """Says which process and GPU it is, once all four actors are there: else the quick ones would take all rows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / str(os.getpid())).touch()

    def __call__(self, row: Row) -> Row:
        import ray

        deadline = time.monotonic() + 200
        while len(list(self.folder.iterdir())) < 4 and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)  # and slow enough for rows to wait
        ids = ray.get_runtime_context().get_accelerator_ids()["GPU"]
        return {**row, "payload": f"{os.getpid()} {','.join(ids)}"}


def table(row: Row) -> pa.Table:
    return pa.table({"where": [row["payload"]], "status": ["ok"], "error_type": pa.nulls(1, pa.string())})


def test_half_a_gpu_each_puts_two_actors_on_a_gpu(ray_cluster: str, tmp_path: Path) -> None:
    allocation = nodes.allocate(nodes.connect(), num_actors=None, gpus_per_actor=0.5)
    assert (allocation.actors, allocation.actor_gpus) == (4, 0.5)
    (tmp_path / "actors").mkdir()
    arguments: dict[str, object] = {"folder": tmp_path / "actors"}
    stages = Stages(before=lambda row: row, actor=Where, actor_arguments=arguments, after=table, killed=table)
    run = frozen_run(tmp_path / "out", [str(index) for index in range(24)], shard_size=24, chunk_size=1).planned()
    rows = [{"shard": 0, "chunk": index, "payload": ""} for index in range(24)]
    results = list(stream(rows, stages, allocation, run, may_be_lost=0))
    assert sorted(row["chunk"] for row in results) == list(range(24))
    on_gpu: dict[str, set[str]] = {}
    for index in range(24):
        (where,) = decode(storage.read_bytes(run.chunk(0, index)))["where"].to_pylist()
        actor, gpu = where.split()
        on_gpu.setdefault(gpu, set()).add(actor)
    assert sorted(on_gpu) == ["0", "1"]
    assert all(len(actors) == 2 for actors in on_gpu.values())


def test_more_than_fit_are_refused_with_numbers(ray_cluster: str) -> None:
    with pytest.raises(ValueError, match=r"2 GPUs on 1 nodes, room for 4 actors of 0.5 GPU; 5 requested"):
        nodes.allocate(nodes.connect(), num_actors=5, gpus_per_actor=0.5)
