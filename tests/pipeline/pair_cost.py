"""What the code of one checkout costs beside another's: processor time of whole label runs, in pairs.

    git worktree add --detach ../before 6f6d309
    python -m jobs.avatars --output pictures --num-images 1000
    python -m tests.pipeline.pair_cost ../before . --input pictures --pairs 5

Each run is a `python -m jobs.label` of its own with a Ray of its own; who goes first changes from pair to pair. Counted
is user and system time of every process that it started, Ray's too: unlike seconds on the clock, it hardly depends on
what else the machine does. Linux only.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--model", default="avatars-10")
    options = parser.parse_args()
    # Ray's processes outlive the driver that started them; whoever outlives its parent becomes this process's child.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
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
    """Of one label run and all that it starts."""
    with tempfile.TemporaryDirectory() as output:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "RAY_AUTH_MODE": "disabled"}
        environment.pop("RAY_ADDRESS", None)
        begun = _spent_by_children()
        command = [sys.executable, "-m", "jobs.label", *arguments, "--output", output]
        subprocess.run(command, cwd=checkout, env=environment, check=True, capture_output=True)
        _wait_for_all()
        return _spent_by_children() - begun


def _wait_for_all() -> None:
    """A process's time counts once somebody has waited for it."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _spent_by_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
