"""Plants chunks of other runs where a run's own chunks will be, or beside them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from ddpm_seg import storage
from ddpm_seg.runs.parquet import encode
from tests.chaos.commit_steps import Trap, step
from tests.chaos.reference import Reference, chunks_of
from tests.chaos.trial import DONE, Trial

# Releases before 0.2 gave the chunk folder of a first run this name, for any plan.
OLD_FOLDER = "run=run-000001"


def _other_images(trial: Trial) -> Reference:
    return trial.references.of(*trial.place.subject.other_images)


def _other_model(trial: Trial) -> Reference:
    return trial.references.other_model()


def _before(old_names: bool, other: Callable[[Trial], Reference], trial: Trial) -> bool:
    """Chunks of an earlier run that was deleted except for them; the job must ignore them and succeed at once."""
    reference = other(trial)
    _plant(trial, reference, OLD_FOLDER if old_names else reference.chunk_folder)
    trial.until_done()
    if len(trial.attempts) > 1:
        trial.problems.append("not done at once")
    return True


def _at_work(other: Callable[[Trial], Reference], trial: Trial) -> bool:
    """Chunks under the names of this run's own, planted just before its first one is written."""
    reference = other(trial)
    trap = Trap(step=step("chunk written"), when="before", victim="hold")
    with trial.attempt() as scene:
        uri = trap.spring(scene)
        if uri:
            _plant(trial, reference, uri.partition("/_chunks/")[2].partition("/")[0])
            trap.release(scene)
    if scene.status != DONE:
        trial.until_done()
    return uri is not None


def _plant(trial: Trial, reference: Reference, folder: str) -> None:
    for shard, chunk, rows in chunks_of(reference, trial.place):
        name = f"{folder}/shard-{shard:05d}/chunk-{chunk:04d}.parquet"
        storage.create_bytes(f"{trial.output}/_chunks/{name}", encode(rows))


STRIKES: dict[str, Callable[[Trial], bool]] = {
    "of other images, old names": partial(_before, True, _other_images),
    "of other images, their own names": partial(_before, False, _other_images),
    "of another model, old names": partial(_before, True, _other_model),
    "of other images, at work": partial(_at_work, _other_images),
    "of another model, at work": partial(_at_work, _other_model),
}
