"""A Ray cluster of several nodes on this machine, which outlives the jobs that run on it, and its processes."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray.cluster_utils

# Counted, not there: with GPUs, actors have one thread however many nodes are alive, and threads change rounding.
ACTOR_NODE: dict[str, Any] = {"num_cpus": 1, "num_gpus": 1}
HEAD: dict[str, Any] = {"include_dashboard": False, "num_cpus": 2}
# What a process calls itself while it holds a model, and while it reads, writes or publishes.
ACTOR = "ray::MapWorker("
TASKS = ("ray::Map(", "ray::settle")
PATIENCE_SECONDS = 20.0


class ChaosCluster:
    """`workers` nodes with an actor each beside a head without; none of them: a head with so many `actors`."""

    def __init__(self, *, workers: int = 0, actors: int = 1) -> None:
        self.workers, self.actors = workers, actors
        self._start()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def stop(self, *, head_first: bool = False) -> None:
        """Without grace: there is nobody to be told."""
        order = -1 if head_first else 1
        nodes = [*self._cluster.worker_nodes, *([self._cluster.head_node] if self._cluster.head_node else [])]
        for node in nodes[::order]:
            self._cluster.remove_node(node, allow_graceful=False)
        self._cluster.shutdown()

    def lose_node(self, generator: random.Random, seconds: float) -> None:
        """A worker node goes, with all that is on it, and another comes after `seconds`."""
        node = generator.choice(sorted(self._cluster.worker_nodes, key=lambda node: str(node.unique_id)))
        self._cluster.remove_node(node, allow_graceful=False)
        time.sleep(seconds)
        self._cluster.add_node(**ACTOR_NODE)

    def lose_head(self) -> None:
        """The cluster goes, and jobs on it have to be begun anew, on another."""
        self.stop(head_first=True)

    def start_again(self) -> None:
        """Nothing where the cluster is still there."""
        if self._cluster.head_node is None:
            self._start()

    def kill_one(self, titles: str | tuple[str, ...], generator: random.Random) -> bool:
        """SIGKILL for a process with one of these titles; False where there is none for a while."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            if victims := [pid for pid, title in self._worker_processes().items() if title.startswith(titles)]:
                try:
                    os.kill(generator.choice(sorted(victims)), signal.SIGKILL)
                except ProcessLookupError:
                    continue
                return True
            time.sleep(0.02)
        return False

    def kill_all(self, titles: str | tuple[str, ...]) -> None:
        """SIGKILL for every process with one of these titles."""
        for pid, title in self._worker_processes().items():
            if title.startswith(titles):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _start(self) -> None:
        handler = signal.getsignal(signal.SIGTERM)
        head = HEAD if self.workers else HEAD | {"num_gpus": self.actors}
        self._cluster = ray.cluster_utils.Cluster(initialize_head=True, head_node_args=head)
        for _ in range(self.workers):
            self._cluster.add_node(**ACTOR_NODE)
        self._cluster.wait_for_nodes()
        signal.signal(signal.SIGTERM, handler)  # each node has put another in its place, which waits for half a minute

    def _worker_processes(self) -> dict[int, str]:
        """Title of each worker process, all of them children of this cluster's raylets."""
        raylets = {
            process.process.pid
            for node in self._cluster.list_all_nodes()
            for process in node.all_processes.get("raylet", [])
        }
        return {pid: title for pid, parent, title in _processes() if parent in raylets}


def _processes() -> list[tuple[int, int, str]]:
    """(pid, parent, title) of every process of this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            # The name in brackets may have brackets itself; the state and the parent follow the last.
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.append((int(folder.name), parent, title))
    return found
