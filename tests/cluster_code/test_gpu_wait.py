from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import ray
from ray.cluster_utils import Cluster

from ddpm_seg.cluster.gpu_wait import wait_for_gpus
from ddpm_seg.cluster.nodes import room_on_gpus
from ddpm_seg.errors import StageError
from ddpm_seg.pipeline.generate.config import GenerateConfig
from ddpm_seg.pipeline.label.config import LabelConfig

OWN = 2  # GPUs that the tests' cluster has


def test_a_node_that_comes_late_is_waited_for(ray_cluster: str) -> None:
    cluster = Cluster()
    cluster.head_node, cluster.redis_address = ray._private.worker._global_node, None
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait_for_gpus, 2 * OWN + 4, 0.5, minutes=1)
        time.sleep(1)
        assert not waiting.done()
        node = cluster.add_node(num_cpus=1, num_gpus=2)
        try:
            assert room_on_gpus(waiting.result(), 0.5) == 2 * OWN + 4
        finally:
            cluster.remove_node(node, allow_graceful=False)
            while sum(each["Alive"] for each in ray.nodes()) > 1:  # the next test's job may not count it
                time.sleep(0.1)


def test_there_is_no_waiting_for_what_is_there(ray_cluster: str) -> None:
    start = time.monotonic()
    assert room_on_gpus(wait_for_gpus(OWN, 1.0, minutes=60), 1.0) >= OWN
    assert time.monotonic() - start < 60


def test_waiting_ends(ray_cluster: str) -> None:
    with pytest.raises(StageError, match=r"after 0.01 minutes the cluster has GPUs for \d of 99 actors"):
        wait_for_gpus(99, 1.0, minutes=0.01)


@pytest.mark.parametrize("config", [LabelConfig, GenerateConfig])
@pytest.mark.parametrize(("minutes", "actors"), [(-1.0, 2), (5.0, None)])
def test_how_many_to_wait_for_is_asked(config: type, minutes: float, actors: int | None) -> None:
    with pytest.raises(
        ValueError, match=rf"--wait-for-gpus {minutes:g}: expected minutes, at least 0, together with --num-actors"
    ):
        config(wait_for_gpus=minutes, num_actors=actors)
