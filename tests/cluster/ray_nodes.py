"""A Ray cluster started with `ray start`, as people do, on this machine: a head without work, and worker nodes."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.seaweedfs import free_ports

CHECKOUT = Path(__file__).parents[2]
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
# Counted, not there: with GPUs an actor has one thread however many nodes are alive, and threads change rounding.
WORKER = ("--num-cpus=1", "--num-gpus=1")
PATIENCE_SECONDS = 120.0


class RayNodes:
    """A cluster between `start` and `stop`, which ends everything that was started."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ray-"))  # short: names of sockets have a limit
        self._environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "RAY_AUTH_MODE": "disabled",  # else Ray makes a token in the developer's home
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_metrics_report_interval_ms": "1000",
        }
        for name in ("RAY_ADDRESS", "PYTHONPATH"):  # a job's working directory is where its code is
            self._environment.pop(name, None)
        port, dashboard = free_ports(2)
        self._gcs = f"127.0.0.1:{port}"
        self.address = f"http://127.0.0.1:{dashboard}"
        self._head_options = ("--head", f"--port={port}", f"--dashboard-port={dashboard}", "--num-cpus=0")
        self._nodes: list[subprocess.Popen[bytes]] = []

    def start(self, workers: int) -> None:
        self._start(*self._head_options)
        self._wait_for(self.address)
        for _ in range(workers):  # one by one: two at once may wait for each other for good
            self._start(f"--address={self._gcs}", *WORKER)
            self._wait_for_nodes(len(self._nodes))

    def submit(self, *entrypoint: str, wait: bool = True) -> str:
        """`ray job submit --working-dir . -- entrypoint`; the job's id. With `wait`, its log must tell of success."""
        options = ["--working-dir", ".", *([] if wait else ["--no-wait"])]
        said = self._job("submit", *options, "--", *entrypoint)
        assert not wait or "succeeded" in said, said
        return re.findall(r"'(raysubmit_\w+)'", said)[0]

    def wait(self, job: str) -> str:
        """The state that `job` ends in."""
        end = time.monotonic() + PATIENCE_SECONDS
        while (state := self.state(job)) in ("PENDING", "RUNNING"):
            assert time.monotonic() < end, self.log(job)
            time.sleep(0.3)
        return state

    def state(self, job: str) -> str:
        return str(json.loads(self._get(f"{self.address}/api/jobs/{job}"))["status"])

    def stop_job(self, job: str) -> None:
        """`ray job stop`, which asks and, three seconds later, kills."""
        self._job("stop", job)

    def log(self, job: str) -> str:
        return str(json.loads(self._get(f"{self.address}/api/jobs/{job}/logs"))["logs"])

    def metrics(self) -> str:
        """What Prometheus would get from all nodes, found as Ray tells Prometheus to find them."""
        (discovery,) = self._folder.glob("0/prom_metrics_service_discovery.json")
        targets = [target for group in json.loads(discovery.read_text()) for target in group["targets"]]
        return "".join(self._get(f"http://{target}/metrics") for target in targets)

    def lose_worker(self) -> None:
        """One node goes without a word, with all that is on it."""
        _kill_tree(self._nodes.pop().pid)

    def stop(self) -> None:
        for node in reversed(self._nodes):
            _kill_tree(node.pid)
            node.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, *options: str) -> None:
        names = ("dashboard-agent-listen", "dashboard-agent-grpc", "runtime-env-agent", "metrics-export")
        ports = [f"--{name}-port={port}" for name, port in zip(names, free_ports(len(names)), strict=True)]
        common = ("--block", "--min-worker-port=0", "--max-worker-port=0", "--object-store-memory=200000000")
        # Nodes with one folder between them would delete each other's copy of a job's working directory.
        own = self._folder / str(len(list(self._folder.iterdir())))
        own.mkdir()
        with (own / "start.log").open("wb") as log:
            command = [*RAY, "start", *common, *ports, f"--temp-dir={own}", *options]
            streams: dict[str, Any] = {"stdout": log, "stderr": log, "stdin": subprocess.DEVNULL}
            self._nodes.append(subprocess.Popen(command, env=self._environment, **streams))

    def _job(self, verb: str, *arguments: str) -> str:
        command = [*RAY, "job", verb, "--address", self.address, *arguments]
        done = subprocess.run(
            command, cwd=CHECKOUT, env=self._environment, capture_output=True, text=True, timeout=2 * PATIENCE_SECONDS
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def _wait_for(self, url: str) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                self._get(url)
                return
            except OSError:
                assert time.monotonic() < end, f"nobody answers at {url}"
                assert self._nodes[0].poll() is None, f"the head ended with {self._nodes[0].returncode}"
                time.sleep(0.3)

    def _wait_for_nodes(self, count: int) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while True:
            nodes = json.loads(self._get(f"{self.address}/nodes?view=summary"))["data"]["summary"]
            if sum(node["raylet"].get("state") == "ALIVE" for node in nodes) == count:
                return
            assert time.monotonic() < end, nodes
            time.sleep(0.3)

    @staticmethod
    def _get(url: str) -> str:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return str(answer.read().decode())


@contextmanager
def ray_nodes(workers: int) -> Iterator[RayNodes]:
    nodes = RayNodes()
    try:
        nodes.start(workers)
        yield nodes
    finally:
        nodes.stop()


def _kill_tree(pid: int) -> None:
    """SIGKILL for a process and all that it started, children first to be found while their parent is there."""
    for child in _children(pid):
        _kill_tree(child)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
