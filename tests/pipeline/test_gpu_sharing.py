"""Actors that share a GPU, on a real Ray cluster whose two GPUs are only counted."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from ddpm_seg.pipeline import cluster
from ddpm_seg.pipeline.execute import Stages, _stream

Row = dict[str, Any]


def test_half_a_gpu_each_puts_two_actors_on_a_gpu(ray_cluster: str) -> None:
    class Where:
        def __call__(self, row: Row) -> Row:
            import ray

            time.sleep(0.3)  # long enough for every actor to get some
            ids = ray.get_runtime_context().get_accelerator_ids()["GPU"]
            return {**row, "actor": os.getpid(), "gpu": ",".join(ids)}

    placement = cluster.place(cluster.connect(), num_actors=None, gpus_per_actor=0.5)
    assert (placement.actors, placement.actor_gpus) == (4, 0.5)
    stages = Stages(before=lambda row: row, actor=Where, actor_arguments={}, after=lambda row: row)
    rows = list(_stream([{"chunk": index} for index in range(24)], stages, placement))
    assert sorted(row["chunk"] for row in rows) == list(range(24))
    on_gpu: dict[str, set[int]] = {}
    for row in rows:
        on_gpu.setdefault(row["gpu"], set()).add(row["actor"])
    assert sorted(on_gpu) == ["0", "1"]
    assert all(len(actors) == 2 for actors in on_gpu.values())


def test_more_than_fit_are_refused_with_numbers(ray_cluster: str) -> None:
    with pytest.raises(ValueError, match=r"2 GPUs on 1 nodes, room for 4 actors of 0.5; 5 asked for"):
        cluster.place(cluster.connect(), num_actors=5, gpus_per_actor=0.5)
