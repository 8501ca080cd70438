"""Compares the cost of two checkouts: processor time of whole label runs, measured in pairs.

    git worktree add --detach ../before 6f6d309
    python -m jobs.avatars --output pictures --num-images 1000
    python -m tests.measurements.pair_cost ../before . --input pictures --pairs 5

Each run is a `python -m jobs.label` of its own with a Ray of its own; who goes first changes from pair to pair. What
counts is the time of a control group that holds every process of the run, Ray's too: unlike seconds on the clock, it
hardly depends on what else the machine does. The usual count of a process's children will not do, for Ray's workers
are not in it when their raylet ends before them. Linux, and as root only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
NANOSECONDS = 1e-9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--model", default="avatars-10")
    options = parser.parse_args()
    label = ["--input", str(options.input.resolve()), "--num-actors", "1", "--model", options.model]
    shares = []
    for number in range(options.pairs):
        order = [options.before, options.after][:: 1 if number % 2 == 0 else -1]
        spent = {checkout: processor_seconds(checkout.resolve(), label) for checkout in order}
        before, after = spent[options.before], spent[options.after]
        shares.append(after / before - 1)
        print(f"pair {number + 1}: {before:.1f} s before, {after:.1f} s after: {shares[-1]:+.1%}", flush=True)
    print(f"median {statistics.median(shares):+.1%}, from {min(shares):+.1%} to {max(shares):+.1%}")


def processor_seconds(checkout: Path, arguments: list[str]) -> float:
    """User and system time of one label run and of all that it starts."""
    with tempfile.TemporaryDirectory() as output, control_group() as group:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "RAY_AUTH_MODE": "disabled"}
        environment.pop("RAY_ADDRESS", None)
        command = [sys.executable, "-m", "jobs.label", *arguments, "--output", output]
        join = f'echo $$ > {group / "cgroup.procs"} && exec "$@"'
        subprocess.run(
            ["sh", "-c", join, "sh", *command], cwd=checkout, env=environment, check=True, capture_output=True
        )
        while (group / "cgroup.procs").read_text():  # Ray's processes outlive the driver by a second or two
            time.sleep(0.2)
        return _spent(group)


@contextmanager
def control_group() -> Iterator[Path]:
    """A new, empty control group of the kernel that counts processor time (version 1 or 2)."""
    parent = GROUPS / "cpuacct" if (GROUPS / "cpuacct").is_dir() else GROUPS
    group = parent / f"pair_cost-{os.getpid()}"
    group.mkdir()
    try:
        yield group
    finally:
        group.rmdir()


def _spent(group: Path) -> float:
    if (usage := group / "cpuacct.usage").exists():
        return int(usage.read_text()) * NANOSECONDS
    counts = dict(line.split() for line in (group / "cpu.stat").read_text().splitlines())
    return int(counts["usage_usec"]) * 1e-6


if __name__ == "__main__":
    main()
