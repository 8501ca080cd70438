from __future__ import annotations

import math

import pytest

from ddpm_seg.cluster.nodes import Allocation, Node, allocate, refuse_local_paths


def nodes(*sizes: tuple[float, float]) -> list[Node]:
    return [Node(cpus=cpus, gpus=gpus) for cpus, gpus in sizes]


def fits(cluster: list[Node], allocation: Allocation) -> bool:
    """Whether all actors stand, on whole nodes, and a task that reads and one that writes find room beside them."""
    room = 0
    for node in cluster:
        by_gpu = math.floor(node.gpus / allocation.actor_gpus + 1e-6) if allocation.actor_gpus else 10**6
        by_cpu = math.floor(node.cpus / allocation.actor_cpus + 1e-6) if allocation.actor_cpus else 10**6
        room += min(by_gpu, by_cpu)
    left = sum(node.cpus for node in cluster) - allocation.actors * allocation.actor_cpus
    whole = any(node.cpus >= allocation.task_cpus for node in cluster)
    return room >= allocation.actors and left >= 2 * allocation.task_cpus and whole


@pytest.mark.parametrize("num_actors", [None, 1, 2, 3, 7])
@pytest.mark.parametrize(
    "sizes",
    [[(1, 0)], [(2, 0)], [(8, 0)], [(16, 0), (16, 0)], [(1, 0), (4, 0), (4, 0)], [(1, 0), (1, 0)], [(0, 0), (3, 0)]],
)
def test_actors_on_cpus_leave_room_for_tasks_or_are_refused(
    sizes: list[tuple[float, float]], num_actors: int | None
) -> None:
    cluster = nodes(*sizes)
    cpus = sum(cpus for cpus, _ in sizes)
    if num_actors and num_actors > max(cpus - 1, 1):
        with pytest.raises(ValueError, match=f"{num_actors}.*requested"):
            allocate(cluster, num_actors=num_actors, gpus_per_actor=1)
        return
    allocation = allocate(cluster, num_actors=num_actors, gpus_per_actor=1)
    assert fits(cluster, allocation)
    assert allocation.actor_gpus == 0
    assert max(1, allocation.actor_cpus) <= allocation.threads
    assert allocation.threads * allocation.actors <= cpus
    assert num_actors in (None, allocation.actors)


def test_one_cpu_actor_uses_all_cpus_but_one() -> None:
    allocation = allocate(nodes((16, 0)), num_actors=None, gpus_per_actor=1)
    assert (allocation.actors, allocation.actor_cpus, allocation.threads) == (1, 15, 15)


def test_the_cpu_left_over_is_used_where_it_is_half_of_the_machine() -> None:
    allocation = allocate(nodes((2, 0)), num_actors=None, gpus_per_actor=1)
    assert (allocation.actors, allocation.actor_cpus, allocation.threads) == (1, 1, 2)


@pytest.mark.parametrize(
    ("sizes", "gpus_per_actor", "actors"),
    [
        ([(8, 1)], 1, 1),
        ([(8, 1)], 0.5, 2),
        ([(8, 4), (8, 4), (4, 0)], 1, 8),
        ([(8, 2)], 0.4, 5),
        ([(8, 1)], 0.1, 10),
        ([(8, 1), (8, 1)], 0.6, 2),
    ],
)
def test_gpus_are_filled(sizes: list[tuple[float, float]], gpus_per_actor: float, actors: int) -> None:
    cluster = nodes(*sizes)
    allocation = allocate(cluster, num_actors=None, gpus_per_actor=gpus_per_actor)
    assert allocation.actors == actors
    assert fits(cluster, allocation)


def test_more_actors_than_gpus_hold_are_refused_with_numbers() -> None:
    with pytest.raises(ValueError, match=r"4 GPUs on 2 nodes, room for 8 actors of 0\.5 GPU; 9 requested"):
        allocate(nodes((8, 2), (8, 2)), num_actors=9, gpus_per_actor=0.5)
    assert allocate(nodes((8, 2), (8, 2)), num_actors=3, gpus_per_actor=0.5).actors == 3


@pytest.mark.parametrize(
    "sizes", [[(0, 0)], [(0, 4)], [(0.5, 1)], [(0.5, 0), (0.5, 0)], [(0.5, 2), (0.9, 0)], [(0, 8), (0, 8)]]
)
def test_a_cluster_without_a_whole_cpu_is_refused(sizes: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        allocate(nodes(*sizes), num_actors=None, gpus_per_actor=1)


def test_paths_of_one_machine_are_refused_on_several() -> None:
    refuse_local_paths(nodes((2, 0)), ["/data", "s3://b/x"])
    refuse_local_paths(nodes((2, 0), (2, 0)), ["s3://b/x", "https://host/x"])
    with pytest.raises(ValueError, match="/data is a path on this machine"):
        refuse_local_paths(nodes((2, 0), (2, 0)), ["s3://b/x", "/data"])
