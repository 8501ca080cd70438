"""One disturbed run: a job is started, disturbed, and started again until it is done."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.comparison import Rows
from tests.chaos.journal import chunks_written
from tests.chaos.nursery import Job
from tests.chaos.place import Place
from tests.chaos.reference import References

MOST_ATTEMPTS = 6
ATTEMPT_SECONDS = 600.0
DONE, INTERRUPTED, ALREADY_RUNNING = 0, 4, 5
PROMISED_EXITS = (DONE, INTERRUPTED, ALREADY_RUNNING)
# If another driver seems alive, wait until it is done or its heartbeat is stale.
WAIT_SECONDS, MOST_WAITS = 5.0, 20


@dataclass(kw_only=True)
class Scene:
    """A job at work. `seconds` is how long an undisturbed job takes; `plan` names its chunks as (shard, chunk)."""

    place: Place
    job: Job
    output: str
    log: Path
    generator: random.Random
    seconds: float
    plan: list[tuple[int, int]]

    def wait(self, seconds: float) -> bool:
        """Lets the job run for that time; returns whether it is still running."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.job.poll() is None:
            time.sleep(min(0.02, seconds))
        return self.job.poll() is None

    def wait_for_some_chunks(self) -> bool:
        """Waits until the job has done some chunks, at least one, and a little more; returns whether it is still
        running."""
        wanted = 1 + self.generator.randrange(int(len(self.plan) * 0.8))
        while self.job.poll() is None and chunks_written(self.place.events(), self.output) < wanted:
            time.sleep(0.05)
        return self.wait(self.generator.uniform(0, 0.5))

    def end(self) -> int | None:
        """Waits for the job's exit status; None for a job that hangs."""
        try:
            return self.job.wait(ATTEMPT_SECONDS)
        except subprocess.TimeoutExpired:
            return None

    @property
    def status(self) -> int | None:
        return self.job.poll()

    @property
    def said(self) -> str:
        """Everything that the job printed."""
        return self.log.read_text(errors="replace")

    @property
    def last_line(self) -> str:
        """The job's own last line; lines of Ray, which are coloured, may follow it."""
        lines = [line for line in self.said.splitlines() if line.strip() and "\x1b[" not in line]
        return lines[-1] if lines else ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Expected:
    """What must be under `output` in the end: `rows`, made by `runs` runs, apart from those of a `deleted` run."""

    output: str
    rows: Rows
    runs: int = 1
    deleted: str = ""


@dataclass(kw_only=True)
class Trial:
    """One disturbed run in a new `output`.

    A strike runs the job as often as needed, notes `problems`, and may change what is `expected` in the end.
    """

    place: Place
    references: References
    generator: random.Random
    output: str
    expected: list[Expected] = field(default_factory=list)
    attempts: list[Scene] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    segmented_before: int = 0
    """How many of the expected rows with a mask existed before the first attempt."""

    def expect(self, rows: Rows, *, output: str | None = None, runs: int = 1, deleted: str = "") -> None:
        self.expected.append(Expected(output=output or self.output, rows=rows, runs=runs, deleted=deleted))

    @contextmanager
    def attempt(
        self, *flags: str, ends: tuple[int, ...] = (), output: str | None = None, forked: bool = True
    ) -> Iterator[Scene]:
        """Runs the job during the block, and waits for its end. It may end with the statuses `ends`, besides the usual
        ones."""
        output, number = output or self.output, len(self.attempts) + 1
        log = self.place.folder / f"attempt-{number}.log"
        with self.place.job(output, log, flags, forked=forked) as job:
            reference = self.references.of()
            scene = Scene(
                place=self.place,
                job=job,
                output=output,
                log=log,
                generator=self.generator,
                seconds=reference.seconds,
                plan=reference.plan,
            )
            self.attempts.append(scene)
            yield scene
            status = scene.end()
        self.place.cluster.start_again()
        if status not in (*PROMISED_EXITS, *ends):
            ended = "hung" if status is None else f"ended with {status}"
            self.problems.append(f"attempt {number} {ended}: {scene.last_line[:300]}")

    def until_done(self, *flags: str, output: str | None = None) -> None:
        """Repeats the same command until it succeeds."""
        failed = waited = 0
        while failed < MOST_ATTEMPTS and waited < MOST_WAITS:
            with self.attempt(*flags, output=output) as scene:
                pass
            if scene.status == DONE:
                return
            if scene.status == ALREADY_RUNNING:
                time.sleep(WAIT_SECONDS)
                waited += 1
            else:
                failed += 1
        self.problems.append(f"not done after {failed + waited} attempts: {scene.last_line[:300]}")

    def interrupted(self, scene: Scene, *words: str) -> None:
        """Notes a problem unless the attempt ended with status 4 and a last line that contains all `words`."""
        missing = [word for word in words if word not in scene.last_line]
        if scene.status != INTERRUPTED or missing:
            self.problems.append(
                f"ended with {scene.status}, without {missing}: {scene.last_line[:300]}"
                if missing
                else f"ended with {scene.status}, not 4: {scene.last_line[:300]}"
            )
