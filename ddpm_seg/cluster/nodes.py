"""Connects to the Ray cluster, and checks before anything starts that at least one task of each stage fits."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc
import ray
from ray.exceptions import RayError

from ddpm_seg import storage
from ddpm_seg.cluster.harmless_lines import leave_out_harmless_lines
from ddpm_seg.cluster.ray_internals import head_address, quieten_start
from ddpm_seg.errors import StageError

ANSWER_SECONDS = 20

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Node:
    cpus: float
    gpus: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Allocation:
    """The resources that the stages request: `task_cpus` for each reading or writing task, the rest for each actor.

    A reading and a writing task always fit beside the actors. With room for only one, Ray Data would read everything
    first and write at the end, and a kill would lose all the work.
    """

    actors: int
    actor_cpus: float
    actor_gpus: float
    threads: int
    task_cpus: float

    def describe(self) -> str:
        return f"{self.actor_gpus:g} GPU" if self.actor_gpus else f"{self.actor_cpus:g} CPU"


def connect() -> list[Node]:
    """Joins the cluster at RAY_ADDRESS (`ray job submit` sets it), else starts one on this machine; returns its nodes.

    If this process has called `ray.init` already, uses that cluster. Raises ValueError, within a minute, if no cluster
    can be joined at RAY_ADDRESS, and StageError if Ray does not start on this machine.
    """
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Silence a warning, on machines without a GPU, about a default that Ray is going to change.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # By default Ray retries a task that its memory monitor kills forever.
        os.environ.setdefault("RAY_task_oom_retries", "2")
        quieten_start()
        leave_out_harmless_lines()
        with _own_sigterm():
            if os.environ.get("RAY_ADDRESS", "local") in ("", "local"):
                _start_here()
            else:
                _join(os.environ["RAY_ADDRESS"])
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(cpus=resources.get("CPU", 0.0), gpus=resources.get("GPU", 0.0)) for resources in alive]


def _start_here() -> None:
    try:
        ray.init(address="local", include_dashboard=False, logging_level=logging.WARNING, log_to_driver=False)
    except Exception as error:  # Ray raises a plain Exception if its processes do not start in time
        if type(error) is not Exception:
            raise
        raise StageError(f"Ray did not start on this machine; is it very busy? {error}") from error


def _join(address: str) -> None:
    remedy = (
        "Give the host:port of a running cluster's head, such as 10.0.0.1:6379, or unset RAY_ADDRESS to run on this "
        "machine alone."
    )
    shown = f"RAY_ADDRESS={storage.redact_text(address)}"
    if "://" in address:
        # ray:// is Ray Client, whose remote driver has no Ray Data; http:// is where `ray job submit` sends jobs.
        raise ValueError(f"{shown} is not an address that a job can join. {remedy}")
    try:
        _wait_for_answer(head_address(address))
        ray.init(logging_level=logging.WARNING)
    except (ConnectionError, OSError, RuntimeError, ValueError, RayError) as error:
        reason = storage.redact_text(str(error).strip().partition("\n")[0])
        raise ValueError(f"no Ray cluster can be joined at {shown} ({reason}). {remedy}") from error


def _wait_for_answer(address: str) -> None:
    """Returns once a gRPC server answers at host:port; raises ConnectionError after ANSWER_SECONDS without an answer.

    Without this check, `ray.init` would silently try for many minutes, in C++ code that no signal interrupts.
    """
    if os.environ.get("RAY_USE_TLS") == "1":
        host, _, port = address.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_SECONDS).close()
        return
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_SECONDS)
        except grpc.FutureTimeoutError:
            raise ConnectionError(f"nothing answered for {ANSWER_SECONDS} seconds") from None


@contextmanager
def _own_sigterm() -> Iterator[None]:
    """Keeps this process's SIGTERM handler, if it has one, across `ray.init`.

    Ray replaces it twice: with a Python handler that exits with status 15, then with a C++ one that prints its stack.
    """
    handler = signal.getsignal(signal.SIGTERM)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    try:
        yield
    except SystemExit as stop:
        if stop.code == signal.SIGTERM:
            handler(signal.SIGTERM, None)
        raise
    finally:
        signal.signal(signal.SIGTERM, handler)


def allocate(nodes: list[Node], *, num_actors: int | None, gpus_per_actor: float) -> Allocation:
    """Places actors on the cluster's GPUs; without GPUs, on its CPUs, with one left free for reading and writing.

    `num_actors` None means as many as fit on the GPUs, or one per node. Raises ValueError, with the numbers, if the
    cluster has no room for `num_actors` or for one task of each stage: Ray would silently wait forever.
    """
    if any(node.gpus for node in nodes):
        return _allocate_on_gpus(nodes, num_actors, gpus_per_actor)
    return _allocate_on_cpus(nodes, num_actors)


def room_on_gpus(nodes: list[Node], gpus_per_actor: float) -> int:
    """The number of actors that fit on the nodes' GPUs."""
    # The small addition keeps rounding from turning 10 into 9.999…
    return sum(math.floor(node.gpus / gpus_per_actor + 1e-6) for node in nodes)


def room_for(num_actors: int | None, uris: Iterable[str]) -> Allocation:
    """Connects, and places actors of one GPU each (or of CPUs), which are to see `uris`.

    Raises ValueError if the cluster cannot hold them or may not see a path.
    """
    nodes = connect()
    refuse_local_paths(nodes, uris)
    return allocate(nodes, num_actors=num_actors, gpus_per_actor=1)


def refuse_local_paths(nodes: list[Node], uris: Iterable[str]) -> None:
    """Raises ValueError for a local path if the cluster has several nodes, as the others may not have that path."""
    if len(nodes) < 2:
        return
    for uri in uris:
        if storage.is_local(uri):
            raise ValueError(
                f"{uri} is a path on this machine, and the cluster has {len(nodes)} nodes, which may not all have it. "
                "Put it in object storage (s3://…), or unset RAY_ADDRESS to run on this machine alone."
            )


def _allocate_on_gpus(nodes: list[Node], num_actors: int | None, gpus_per_actor: float) -> Allocation:
    gpus, cpus = sum(node.gpus for node in nodes), sum(node.cpus for node in nodes)
    most = room_on_gpus(nodes, gpus_per_actor)
    actors = most if num_actors is None else num_actors
    if not 1 <= actors <= most:
        raise ValueError(
            f"the cluster has {gpus:g} GPUs on {len(nodes)} nodes, room for {most} actors of {gpus_per_actor:g} GPU; "
            f"{max(actors, 1)} requested. Lower --num-actors or --gpus-per-actor."
        )
    if not any(node.cpus >= 1 for node in nodes):
        raise ValueError(
            f"the cluster has {cpus:g} CPUs on {len(nodes)} nodes, and no node has a whole one; reading and writing "
            "need at least 1 CPU"
        )
    # GPU actors reserve no CPU, or many of them would leave none for the tasks that feed them.
    return Allocation(
        actors=actors, actor_cpus=0, actor_gpus=gpus_per_actor, threads=1, task_cpus=1 if cpus >= 2 else 0.5
    )


def _allocate_on_cpus(nodes: list[Node], num_actors: int | None) -> Allocation:
    cpus = sum(math.floor(node.cpus) for node in nodes)
    if cpus < 1:
        raise ValueError(f"the cluster has {cpus} CPUs on {len(nodes)} nodes; the job needs at least 1")
    if cpus == 1:
        if num_actors not in (None, 1):
            raise ValueError(f"the cluster has 1 CPU, room for 1 actor; {num_actors} requested. Lower --num-actors.")
        return Allocation(actors=1, actor_cpus=0.5, actor_gpus=0, threads=1, task_cpus=0.25)
    # One actor per node by default: a network's threads work best in one process.
    actors = num_actors or sum(1 for node in nodes if node.cpus >= 2) or 1
    # Find the largest CPU count with which every actor fits on one node and one CPU stays free.
    for each in range((cpus - 1) // actors, 0, -1):
        if sum(math.floor(node.cpus) // each for node in nodes) >= actors:
            task_cpus = 1 if cpus - actors * each >= 2 else 0.5
            # The free CPU is mostly idle. If it is half of the machine, let the network's threads use it too.
            threads = min(2, cpus // actors) if each == 1 else each
            return Allocation(actors=actors, actor_cpus=each, actor_gpus=0, threads=threads, task_cpus=task_cpus)
    raise ValueError(
        f"the cluster has {cpus} CPUs on {len(nodes)} nodes, room for {cpus - 1} actors and one CPU to read and write; "
        f"{actors} actors requested. Lower --num-actors."
    )
