"""A Ray cluster of several nodes on this machine, which outlives the jobs on it; and killing its processes."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray.cluster_utils

# These GPUs do not exist. With GPUs, actors have one thread for any number of nodes; more threads change rounding.
ACTOR_NODE: dict[str, Any] = {"num_cpus": 1, "num_gpus": 1}
HEAD: dict[str, Any] = {"include_dashboard": False, "num_cpus": 2}
# Process titles of actors, which hold a model, and of tasks, which read, write or publish.
ACTOR = "ray::MapWorker("
TASKS = ("ray::Map(", "ray::settle")
PATIENCE_SECONDS = 20.0


class ChaosCluster:
    """A head and `workers` nodes with one actor each; if `workers` is 0, a head with `actors` actors."""

    def __init__(self, *, workers: int = 0, actors: int = 1) -> None:
        self.workers, self.actors = workers, actors
        self._start()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def stop(self, *, head_first: bool = False) -> None:
        """Ends all nodes at once, without a graceful shutdown."""
        order = -1 if head_first else 1
        nodes = [*self._cluster.worker_nodes, *([self._cluster.head_node] if self._cluster.head_node else [])]
        for node in nodes[::order]:
            self._cluster.remove_node(node, allow_graceful=False)
        self._cluster.shutdown()

    def lose_node(self, generator: random.Random, seconds: float) -> None:
        """Kills a worker node with everything on it; another one joins after `seconds`."""
        node = generator.choice(sorted(self._cluster.worker_nodes, key=lambda node: str(node.unique_id)))
        self._cluster.remove_node(node, allow_graceful=False)
        time.sleep(seconds)
        self._cluster.add_node(**ACTOR_NODE)

    def lose_head(self) -> None:
        """Kills the cluster. Jobs on it must be started again, on another cluster."""
        self.stop(head_first=True)

    def start_again(self) -> None:
        """Starts the cluster again; does nothing if it is running."""
        if self._cluster.head_node is None:
            self._start()

    def kill_one(self, titles: str | tuple[str, ...], generator: random.Random) -> bool:
        """Kills (SIGKILL) a process with one of these titles; False if none appears for a while."""
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
        """Kills (SIGKILL) every process with one of these titles."""
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
        signal.signal(signal.SIGTERM, handler)  # each node has replaced it with one that waits for half a minute

    def _worker_processes(self) -> dict[int, str]:
        """Title of each worker process: all children of this cluster's raylets."""
        raylets = {
            process.process.pid
            for node in self._cluster.list_all_nodes()
            for process in node.all_processes.get("raylet", [])
        }
        return {pid: title for pid, parent, title in _processes() if parent in raylets}


def _processes() -> list[tuple[int, int, str]]:
    """(pid, parent, title) of every process on this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            # The name in brackets may contain brackets; the state and the parent follow the last one.
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        found.append((int(folder.name), parent, title))
    return found
