"""The Ray cluster: connecting to it, and whether one of each stage fits before anything is started."""

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
    """What the stages ask Ray for. `task_cpus` is for each reading and writing task, the rest for each actor.

    At least one task of each kind fits beside the actors: with room for one only, Ray Data would read everything first
    and write afterwards, and a kill would cost it all.
    """

    actors: int
    actor_cpus: float
    actor_gpus: float
    threads: int
    task_cpus: float

    def describe(self) -> str:
        return f"{self.actor_gpus:g} GPU" if self.actor_gpus else f"{self.actor_cpus:g} CPU"


def connect() -> list[Node]:
    """Joins the cluster of RAY_ADDRESS (`ray job submit` sets it), else starts one on this machine; its nodes.

    In a process that has called `ray.init` already, that cluster. Raises ValueError, within a minute, for a
    RAY_ADDRESS that no cluster can be joined at, and StageError where Ray does not start on this machine.
    """
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Silences a warning that Ray prints on machines without a GPU about a default that it is going to change.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        # A task that Ray's memory monitor kills is otherwise given to new workers for ever.
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
    except Exception as error:  # Ray raises no narrower one where its processes do not come up in time
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
        raise ValueError(f"{shown} is no address that a job can join. {remedy}")
    try:
        _wait_for_answer(head_address(address))
        ray.init(logging_level=logging.WARNING)
    except (ConnectionError, OSError, RuntimeError, ValueError, RayError) as error:
        reason = storage.redact_text(str(error).strip().partition("\n")[0])
        raise ValueError(f"no Ray cluster can be joined at {shown} ({reason}). {remedy}") from error


def _wait_for_answer(address: str) -> None:
    """Returns once a gRPC server answers at host:port; raises ConnectionError after ANSWER_SECONDS without one.

    `ray.init` would try for many minutes without a word, in C++ code that no signal interrupts.
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
    """Keeps this process's handler of SIGTERM, if it has one, while `ray.init` is called.

    Ray replaces it twice: by a Python handler that exits with status 15, then by a C++ one that prints its stack.
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
    """Actors on the GPUs there are, else on CPUs with one left free for reading and writing.

    Raises ValueError, with the numbers, where the cluster cannot hold one of each stage or `num_actors`: Ray would
    place the actors, wait for the rest without a word, and never finish.
    """
    if any(node.gpus for node in nodes):
        return _allocate_on_gpus(nodes, num_actors, gpus_per_actor)
    return _allocate_on_cpus(nodes, num_actors)


def room_on_gpus(nodes: list[Node], gpus_per_actor: float) -> int:
    """Actors that fit on the nodes' GPUs."""
    # A hair is added because 1 / 0.1 is 10 and not 9.999…
    return sum(math.floor(node.gpus / gpus_per_actor + 1e-6) for node in nodes)


def refuse_local_paths(nodes: list[Node], uris: Iterable[str]) -> None:
    """Raises ValueError for a path that only this machine has, where workers run on others too."""
    if len(nodes) < 2:
        return
    for uri in uris:
        if storage.is_local(uri):
            raise ValueError(
                f"{uri} is a path of this machine, and the cluster has {len(nodes)} nodes that cannot all be expected "
                "to see it. Put it in object storage (s3://…), or unset RAY_ADDRESS to run on this machine alone."
            )


def _allocate_on_gpus(nodes: list[Node], num_actors: int | None, gpus_per_actor: float) -> Allocation:
    gpus, cpus = sum(node.gpus for node in nodes), sum(node.cpus for node in nodes)
    most = room_on_gpus(nodes, gpus_per_actor)
    actors = most if num_actors is None else num_actors
    if not 1 <= actors <= most:
        raise ValueError(
            f"the cluster has {gpus:g} GPUs on {len(nodes)} nodes, room for {most} actors of {gpus_per_actor:g}; "
            f"{max(actors, 1)} asked for. Lower --num-actors or --gpus-per-actor."
        )
    if not any(node.cpus >= 1 for node in nodes):
        raise ValueError(
            f"the cluster has {cpus:g} CPUs on {len(nodes)} nodes, on none of them a whole one; reading and writing "
            "need at least 1"
        )
    # Actors take no CPU of their own, or those of many GPUs would leave none to the tasks that feed them.
    return Allocation(
        actors=actors, actor_cpus=0, actor_gpus=gpus_per_actor, threads=1, task_cpus=1 if cpus >= 2 else 0.5
    )


def _allocate_on_cpus(nodes: list[Node], num_actors: int | None) -> Allocation:
    cpus = sum(math.floor(node.cpus) for node in nodes)
    if cpus < 1:
        raise ValueError(f"the cluster has {cpus} CPUs on {len(nodes)} nodes; the job needs at least 1")
    if cpus == 1:
        if num_actors not in (None, 1):
            raise ValueError(f"the cluster has 1 CPU, room for 1 actor; {num_actors} asked for. Lower --num-actors.")
        return Allocation(actors=1, actor_cpus=0.5, actor_gpus=0, threads=1, task_cpus=0.25)
    # One actor a node unless told otherwise: a network's threads are used best by one process.
    actors = num_actors or sum(1 for node in nodes if node.cpus >= 2) or 1
    # The most CPUs an actor can have so that all fit, whole on a node each, with one CPU over.
    for each in range((cpus - 1) // actors, 0, -1):
        if sum(math.floor(node.cpus) // each for node in nodes) >= actors:
            task_cpus = 1 if cpus - actors * each >= 2 else 0.5
            # The one over is idle most of the time: where it would be half of the machine, the network uses it too.
            threads = min(2, cpus // actors) if each == 1 else each
            return Allocation(actors=actors, actor_cpus=each, actor_gpus=0, threads=threads, task_cpus=task_cpus)
    raise ValueError(
        f"the cluster has {cpus} CPUs on {len(nodes)} nodes, room for {cpus - 1} actors and one CPU to read and write; "
        f"{actors} actors asked for. Lower --num-actors."
    )
