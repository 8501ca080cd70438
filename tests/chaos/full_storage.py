"""Makes the storage full while the job writes a file that it needs."""

from __future__ import annotations

from tests.chaos.commit_steps import Trap, step
from tests.chaos.trial import DONE, Trial

STEPS = ("shard published", "summary written", "report written")


def at_step(name: str, trial: Trial) -> bool:
    """The job must stop and say so; once there is space again, it must continue."""
    room, trap = trial.place.room, Trap(step=step(name), when="before", victim="hold")
    trial.output = room.new_output()
    with trial.attempt() as scene:
        met = trap.spring(scene) is not None
        if met:
            with room.full():
                trap.release(scene)
                scene.end()
    if met:
        trial.interrupted(scene, room.says)
    if scene.status != DONE:
        trial.until_done()
    return met
