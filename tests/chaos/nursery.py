"""Starts jobs fast: each is forked from a process that has imported what jobs import, which would take seconds."""

from __future__ import annotations

import importlib
import json
import os
import runpy
import selectors
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Protocol

# Modules that both jobs import. The jobs' own modules are imported only in the fork.
IMPORTS = (
    "torch",
    "ray.data",
    "ddpm_seg.pipeline.label.job",
    "ddpm_seg.pipeline.generate.job",
    "ddpm_seg.pipeline.execute",
    "ddpm_seg.cluster.gpu_wait",
    "ddpm_seg.pipeline.generate.stages",
    "ddpm_seg.evaluation.pages.report",
    "ddpm_seg.evaluation.tables.active",
    "ddpm_seg.command_line.arguments",
)


class Job(Protocol):
    """What the harness needs of a job's process; `subprocess.Popen` has it too."""

    @property
    def pid(self) -> int: ...
    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...
    def send_signal(self, sig: int) -> None: ...
    def kill(self) -> None: ...


class Nursery:
    """Uses this process's environment, and that working folder. `close` ends the nursery, but no job."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.nursery"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._changed = threading.Condition()
        self._started: list[int] = []
        self._ended: dict[int, int] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def start(self, module: str, arguments: list[str], environment: dict[str, str], log: Path) -> Job:
        """Runs `python -m module arguments` with additional environment variables; the output goes to `log`."""
        order = {"module": module, "arguments": arguments, "environment": environment, "log": str(log)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        with self._changed:
            if not self._changed.wait_for(lambda: self._started, timeout=120):
                raise RuntimeError("no job was started")
            return _Child(self, self._started.pop())

    def status(self, pid: int, timeout: float | None) -> int | None:
        """The exit status, or minus a signal's number; None if the process is still running after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: pid in self._ended, timeout)
            return self._ended.get(pid)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, pid, *status = line.decode().split()
            with self._changed:
                if word == "started":
                    self._started.append(int(pid))
                else:
                    self._ended[int(pid)] = int(status[0])
                self._changed.notify_all()


class _Child:
    def __init__(self, nursery: Nursery, pid: int) -> None:
        self._nursery, self.pid = nursery, pid

    def poll(self) -> int | None:
        return self._nursery.status(self.pid, 0)

    def wait(self, timeout: float | None = None) -> int:
        status = self._nursery.status(self.pid, timeout)
        if status is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return status

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def main() -> None:
    """Serves orders forever in the parent; returns in each child, to become the job that was ordered."""
    for name in IMPORTS:
        importlib.import_module(name)
    orders = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
    with selectors.DefaultSelector() as selector:
        selector.register(orders, selectors.EVENT_READ)
        while True:
            if selector.select(timeout=0.05):
                line = orders.readline()
                if not line:
                    os._exit(0)
                order = json.loads(line)
                if not (pid := os.fork()):
                    break
                _say(f"started {pid}")
            _tell_ends()
    _become(order)


def _tell_ends() -> None:
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            _say(f"ended {ended[0]} {os.waitstatus_to_exitcode(ended[1])}")
    except ChildProcessError:
        pass  # there is none


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def _become(order: dict[str, object]) -> None:
    log = os.open(str(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    environment, arguments = order["environment"], order["arguments"]
    assert isinstance(environment, dict)
    assert isinstance(arguments, list)
    os.environ.update(environment)
    sys.argv = [str(order["module"]), *arguments]
    runpy.run_module(str(order["module"]), run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
