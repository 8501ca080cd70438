"""The faults that disturb a job, and when they happen."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product

from tests.chaos import foreign_chunks, full_storage, replaced, spoilt_files, two_drivers
from tests.chaos.cluster import ACTOR, TASKS
from tests.chaos.commit_steps import STEPS, WHENS, Step, Trap, Victim, When, step
from tests.chaos.place import StorageKind
from tests.chaos.room import can_mount
from tests.chaos.subject import SUBJECTS, JobName
from tests.chaos.trial import DONE, Scene, Trial

KILLED = (-signal.SIGKILL,)
# Ray itself ends a driver that has lost its cluster for a minute, without an exception that could be caught.
CLUSTER_GONE = (1,)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A fault. `kind` is its row in the table.

    `strike` runs the job, disturbs it, and repeats it until it is done; it returns False if the job ended before there
    was a moment for the fault. `at_random` faults happen at another moment each time.
    """

    kind: str
    strike: Callable[[Trial], bool]
    detail: str = ""
    at_random: bool = False

    def __str__(self) -> str:
        return f"{self.kind} {self.detail}".strip()


def faults_of(storage: StorageKind, job: JobName, *, several_nodes: bool = False) -> list[Fault]:
    """Every fault that can happen to this job on this storage, with a cluster of one node or several."""
    at_random = [
        ("actor killed", _during(partial(_kill_one, ACTOR))),
        ("task killed", _during(partial(_kill_one, TASKS))),
        ("driver killed", _during(_kill_driver, KILLED)),
        ("head lost", _during(_lose_head, CLUSTER_GONE)),
    ]
    if storage == "s3":
        at_random += [
            ("store paused", _during(_pause_store)),
            ("store restarted", _during(_restart_store)),
        ]
    if several_nodes:
        at_random.append(("node lost", _during(_lose_node)))
    steps = [
        _at_step(each, when, victim)
        for each in STEPS
        for when, victim in product(WHENS, each.victims)
        # A deletion has no moment of writing.
        if (each.call != "delete" or when != "during") and (job == "label-tar" or not each.of_containers)
    ]
    return [
        *(Fault(kind=kind, strike=strike, at_random=True) for kind, strike in at_random),
        *steps,
        *_stories(storage, job),
    ]


def _stories(storage: StorageKind, job: JobName) -> list[Fault]:
    """Faults with more than one step: something is prepared before, or repaired afterwards."""
    told: list[tuple[str, str, Callable[[Trial], bool]]] = [
        ("SIGTERM", "at work", partial(_terminate, Scene.wait_for_some_chunks)),
        ("SIGTERM", "at start", partial(_terminate, _at_start)),
        ("SIGTERM", "near the end", partial(_terminate, _near_the_end)),
        *(("bundle replaced", when, strike) for when, strike in replaced.BUNDLE.items()),
        *(("output moved away", back, strike) for back, strike in replaced.OUTPUT.items()),
        *(("foreign chunks planted", which, strike) for which, strike in foreign_chunks.STRIKES.items()),
        ("old summary spoilt", "", spoilt_files.summary),
        *(("old manifest spoilt", mend, strike) for mend, strike in spoilt_files.MANIFEST.items()),
        ("published shard spoilt", "of an interrupted run", spoilt_files.shard_of_interrupted_run),
    ]
    if job.startswith("label"):
        told.append(("published shard spoilt", "then --retry-errors", spoilt_files.shard_before_retry))
    if storage == "s3" or can_mount():
        told += [(f"storage full: {name}", "", partial(full_storage.at_step, name)) for name in full_storage.STEPS]
    for flags in SUBJECTS[job].other_options:
        told.append(("two drivers at once", flags[0].partition("=")[0], partial(two_drivers.at_once, flags)))
    return [Fault(kind=kind, detail=detail, strike=strike) for kind, detail, strike in told]


def _during(strike: Callable[[Scene], bool], ends: tuple[int, ...] = ()) -> Callable[[Trial], bool]:
    """One strike in the first attempt, which may then end with these exit statuses too."""

    def play(trial: Trial) -> bool:
        with trial.attempt(ends=ends) as scene:
            struck = strike(scene)
        if scene.status != DONE:
            trial.until_done()
        return struck

    return play


def _at_step(taken: Step, when: When, victim: Victim) -> Fault:
    trap = Trap(step=taken, when=when, victim=victim)
    who = "driver" if victim == "driver" or not taken.in_worker else "task"
    strike = _during(lambda scene: trap.spring(scene) is not None, KILLED if who == "driver" else ())
    return Fault(kind=f"{who} killed at: {taken.name}", strike=strike, detail=when)


def _terminate(wait: Callable[[Scene], bool], trial: Trial) -> bool:
    """Sends SIGTERM, perhaps before Python has reached the job's own code: then the signal just ends the process."""
    with trial.attempt(ends=(-signal.SIGTERM,), forked=False) as scene:
        alive = wait(scene)
        begun = bool(trial.place.events())
        scene.job.send_signal(signal.SIGTERM)
    if begun and scene.status != DONE:
        trial.interrupted(scene, "again")
    if "Traceback" in scene.said or "SIGABRT" in scene.said or "SIGTERM received" in scene.said:
        trial.problems.append(f"more than a line after SIGTERM: {scene.said[-300:]}")
    if scene.status != DONE:
        trial.until_done()
    return alive


def _at_start(scene: Scene) -> bool:
    return scene.wait(scene.generator.uniform(0, scene.seconds / 2))


def _near_the_end(scene: Scene) -> bool:
    trap = Trap(step=step(scene.generator.choice(["summary written", "report written"])), when="before", victim="hold")
    met = trap.spring(scene) is not None
    trap.release(scene)
    return met


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
