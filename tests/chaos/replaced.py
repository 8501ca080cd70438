"""Replaces what the job works with while it works: its model by another, or its output by nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from ddpm_seg import storage
from ddpm_seg.model.bundle.ensemble_bundle import read_header
from tests.chaos.cluster import ACTOR
from tests.chaos.commit_steps import Trap, step
from tests.chaos.reference import copy_files
from tests.chaos.trial import DONE, Scene, Trial

WEIGHTS = "ensemble.safetensors"
LONGEST_AWAY_SECONDS = 6.0


def _bundle_replaced(replace: Callable[[Scene], bool], words: Callable[[Trial], list[str]], trial: Trial) -> bool:
    """The job must either stop and name the problem, or finish with the old model; with the old model back, it must
    finish."""
    trial.references.other_model()  # so that its masks are known
    try:
        with trial.attempt() as scene:
            struck = replace(scene)
        if scene.status != DONE:
            trial.interrupted(scene, *words(trial))
    finally:
        trial.place.put_model("model-kept")
    if scene.status != DONE:
        trial.until_done()
    return struck


def _before_actors_load(scene: Scene) -> bool:
    trap = Trap(step=step("manifest created"), when="after", victim="hold")
    met = trap.spring(scene) is not None
    if met:
        scene.place.put_model("model-other")
        trap.release(scene)
    return met


def _at_work(scene: Scene) -> bool:
    met = scene.wait_for_some_chunks()
    if met:
        scene.place.put_model("model-other")
        scene.place.cluster.kill_all(ACTOR)
    return met


def _weights_alone(scene: Scene) -> bool:
    met = scene.wait_for_some_chunks()
    if met:
        scene.place.put_model("model-other", WEIGHTS)
        scene.place.cluster.kill_all(ACTOR)
    return met


def _both_ids(trial: Trial) -> list[str]:
    return [read_header(f"{trial.place.prefix}/{name}").model_id for name in ("model-kept", "model-other")]


def _file_name(_: Trial) -> list[str]:
    return [WEIGHTS]


BUNDLE: dict[str, Callable[[Trial], bool]] = {
    "before its actors load it": partial(_bundle_replaced, _before_actors_load, _both_ids),
    "at work, actors killed": partial(_bundle_replaced, _at_work, _both_ids),
    "its ensemble alone, actors killed": partial(_bundle_replaced, _weights_alone, _file_name),
}


def _moved_and_back(bring_back: Callable[[str, str], None], trial: Trial) -> bool:
    """The job may continue or stop; with everything put back in place, it must finish."""
    away = trial.output + "-away"
    with trial.attempt() as scene:
        struck = scene.wait_for_some_chunks()
        if struck:
            _move(trial.output, away)
            scene.wait(trial.generator.uniform(0, LONGEST_AWAY_SECONDS))
            bring_back(away, trial.output)
    if scene.status != DONE or not storage.exists(f"{trial.output}/runs/run-000001/report.html"):
        trial.until_done()
    return struck


def _moved_for_good(trial: Trial) -> bool:
    """The job must stop, unless it was done already. The same command starts over; what was moved is finished there."""
    away = trial.output + "-away"
    with trial.attempt() as scene:
        struck = scene.wait_for_some_chunks()
        if struck:
            _move(trial.output, away)
    if struck:
        if scene.status == DONE and not storage.exists(f"{away}/runs/run-000001/report.html"):
            trial.problems.append("ended with 0, though a part of its tables had been moved away")
        trial.until_done(output=away)
        trial.expect(trial.references.of().rows, output=away)
    trial.until_done()
    trial.expect(trial.references.of().rows, deleted=_stray_run(trial) if struck else "")
    return struck


def _stray_run(trial: Trial) -> str:
    """Expects in the first run a shard that it published at the old place while S3 was moving object by object.

    Its rows are right, and older than those of the run that started over there; the job must report these shards.
    """
    # Not `exists`: some S3 servers keep empty folders.
    if any(storage.list_files(f"{trial.output}/runs/run-000001")):  # the run that started over: no shard had stayed
        return ""
    if "has shards of run-000001, whose plans are no longer in runs/" not in trial.attempts[-1].said:
        trial.problems.append("did not say that shards of a run that was moved away stayed")
    return "run-000001"


def _move(source: str, target: str) -> None:
    """Moves an output as `mv` does, on S3 as `aws s3 mv --recursive` does."""
    if storage.is_local(source):
        Path(source).rename(target)
        return
    for uri in copy_files(source, target):
        storage.delete(uri)


def _instead(away: str, output: str) -> None:
    """Moves the output back after deleting what was made there meanwhile."""
    if not storage.is_local(output):
        storage.delete(output)
        return _move(away, output)
    while Path(away).exists():  # a worker may be writing there
        shutil.rmtree(output, ignore_errors=True)
        with suppress(OSError):
            Path(away).rename(output)
    return None


def _over(away: str, output: str) -> None:
    """Moves the output back over what was made there meanwhile."""
    copy_files(away, output)
    storage.delete(away)


OUTPUT: dict[str, Callable[[Trial], bool]] = {
    "and put back": partial(_moved_and_back, _instead),
    "and copied back over what was new": partial(_moved_and_back, _over),
    "for good": _moved_for_good,
}
