"""What befalls a job, and when."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from subprocess import Popen

from tests.chaos.cluster import ACTOR, TASKS
from tests.chaos.commit_steps import STEPS, WHENS, Step, Trap, Victim, When
from tests.chaos.journal import chunks_written
from tests.chaos.place import Place, StorageKind

KILLED = (-signal.SIGKILL,)
# Ray itself ends a driver that has not found its cluster for a minute; no exception is raised that could be caught.
CLUSTER_GONE = (1,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """A job at work. `seconds` is how long an undisturbed one takes, `chunks` how many it writes."""

    place: Place
    job: Popen[bytes]
    output: str
    generator: random.Random
    seconds: float
    chunks: int

    def wait(self, seconds: float) -> bool:
        """Whether the job is still there afterwards."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.job.poll() is None:
            time.sleep(min(0.02, seconds))
        return self.job.poll() is None

    def wait_for_some_chunks(self) -> bool:
        """Until some number of chunks, and a little more; whether the job is still there."""
        wanted = self.generator.randrange(int(self.chunks * 0.8))
        while self.job.poll() is None and chunks_written(self.place.events(), self.output) < wanted:
            time.sleep(0.05)
        return self.wait(self.generator.uniform(0, 0.5))


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """`kind` is a row of the table. `strike` waits for its moment; whether there was one before the job ended.

    `at_random` is one whose moment is another each time. `ends` are statuses, beside those that the job promises, with
    which it may end under this fault.
    """

    kind: str
    strike: Callable[[Scene], bool]
    detail: str = ""
    ends: tuple[int, ...] = ()
    at_random: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.detail}".strip()


def faults_of(storage: StorageKind) -> list[Fault]:
    """Every fault that can befall a job on this storage."""
    at_random = [
        Fault(kind="actor killed", strike=partial(_kill_one, ACTOR), at_random=True),
        Fault(kind="task killed", strike=partial(_kill_one, TASKS), at_random=True),
        Fault(kind="driver killed", strike=_kill_driver, ends=KILLED, at_random=True),
        Fault(kind="head lost", strike=_lose_head, ends=CLUSTER_GONE, at_random=True),
    ]
    if storage == "s3":
        at_random += [
            Fault(kind="node lost", strike=_lose_node, at_random=True),
            Fault(kind="store paused", strike=_pause_store, at_random=True),
            Fault(kind="store restarted", strike=_restart_store, at_random=True),
        ]
    return at_random + [
        _at_step(step, when, victim)
        for step in STEPS
        for when, victim in product(WHENS, step.victims)
        if step.call != "delete" or when != "during"  # a deletion writes nothing to be caught at
    ]


def _at_step(step: Step, when: When, victim: Victim) -> Fault:
    def strike(scene: Scene) -> bool:
        trap = Trap(step=step, when=when, victim=victim)
        return trap.spring(scene.place.folder, scene.output, scene.job, scene.generator)

    who = "driver" if victim == "driver" or not step.in_worker else "task"
    ends = KILLED if who == "driver" else ()
    return Fault(kind=f"{who} killed at: {step.name}", strike=strike, detail=when, ends=ends)


def _kill_one(titles: str | tuple[str, ...], scene: Scene) -> bool:
    return scene.wait_for_some_chunks() and scene.place.cluster.kill_one(titles, scene.generator)


def _kill_driver(scene: Scene) -> bool:
    alive = scene.wait(scene.generator.uniform(0, scene.seconds))
    scene.job.kill()
    return alive


def _lose_head(scene: Scene) -> bool:
    alive = scene.wait_for_some_chunks()
    if alive:
        scene.place.cluster.lose_head()
    return alive


def _lose_node(scene: Scene) -> bool:
    alive = scene.wait_for_some_chunks()
    if alive:
        scene.place.cluster.lose_node(scene.generator, seconds=scene.generator.uniform(0, 5))
    return alive


def _pause_store(scene: Scene) -> bool:
    alive, seconds = scene.wait_for_some_chunks(), scene.generator.uniform(2, 15)
    if alive and scene.place.store is not None:
        scene.place.store.pause(seconds)
    return alive


def _restart_store(scene: Scene) -> bool:
    alive, seconds = scene.wait_for_some_chunks(), scene.generator.uniform(0, 5)
    if alive and scene.place.store is not None:
        scene.place.store.restart(seconds)
    return alive
