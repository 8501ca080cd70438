"""Damages a file that an earlier night or attempt left."""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from functools import partial

from ddpm_seg import storage
from ddpm_seg.runs.parquet import decode
from tests.chaos.commit_steps import Trap, step
from tests.chaos.reference import copy_files
from tests.chaos.trial import DONE, Scene, Trial

FIRST_RUN = "runs/run-000001"


def summary(trial: Trial) -> bool:
    """The next night must work as if the file were not damaged."""
    _first_night(trial)
    uri = f"{trial.output}/{FIRST_RUN}/summary.json"
    good = _spoil(uri, trial.generator)
    trial.until_done()
    if len(trial.attempts) > 1:
        trial.problems.append(f"not done at once: {trial.attempts[0].last_line[:300]}")
    storage.write_bytes(uri, good)
    return True


def _manifest(put_back: bool, trial: Trial) -> bool:
    """The next night must stop and name the file. Then a copy is restored, or the run's folder deleted, as the message
    says."""
    _first_night(trial)
    uri = f"{trial.output}/{FIRST_RUN}/manifest.parquet"
    good = _spoil(uri, trial.generator)
    with trial.attempt() as scene:
        pass
    if _harmless(scene, trial, uri, good):
        return True
    trial.interrupted(scene, uri)
    if put_back:
        storage.write_bytes(uri, good)
    else:
        storage.delete(f"{trial.output}/{FIRST_RUN}")
        trial.expected.clear()
        trial.expect(trial.references.of().rows, deleted=FIRST_RUN.rpartition("/")[2])
        trial.segmented_before = 0
    trial.until_done()
    return True


MANIFEST: dict[str, Callable[[Trial], bool]] = {
    "then put back": partial(_manifest, True),
    "then its run deleted": partial(_manifest, False),
}


def shard_of_interrupted_run(trial: Trial) -> bool:
    """Resuming must stop and name the file; once it is deleted, as the message says, it must be made again."""
    trap = Trap(step=step("class_stats derived"), when="before", victim="driver")
    with trial.attempt(ends=(-signal.SIGKILL,)) as scene:
        derived = trap.spring(scene)
    if derived is None:
        return False
    subject = trial.place.subject
    uri = derived.replace(f"/{subject.derived}/", f"/{subject.table}/")
    good = _spoil(uri, trial.generator)
    with trial.attempt() as scene:
        pass
    if not _harmless(scene, trial, uri, good):
        trial.interrupted(scene, uri)
        storage.delete(uri)
        trial.until_done()
    return True


def shard_before_retry(trial: Trial) -> bool:
    """Only a night that retries errors reads shards of finished runs: it must stop and name the file.

    With the file restored, an ordinary night must work.
    """
    _first_night(trial)
    (uri, *_) = [file.uri for file in storage.list_files(f"{trial.output}/{trial.place.subject.table}")]
    good = _spoil(uri, trial.generator, readable=False)
    with trial.attempt("--retry-errors") as scene:
        pass
    trial.interrupted(scene, uri)
    storage.write_bytes(uri, good)
    trial.until_done()
    return True


def _first_night(trial: Trial) -> None:
    before, both = trial.references.two_nights()
    copy_files(before, trial.output)
    trial.expect(both.rows, runs=2)
    first = trial.place.subject.first_night
    trial.segmented_before = sum(row["status"] == "ok" for row in list(both.rows.values())[:first])


def _spoil(uri: str, generator: random.Random, *, readable: bool = True) -> bytes:
    """Overwrites a file with what a bad disk, a full disk or a user could leave, which may still be readable.

    Returns the original content.
    """
    good = storage.read_bytes(uri)
    place = generator.randrange(len(good))
    flipped = good[:place] + bytes([good[place] ^ 1 << generator.randrange(8)]) + good[place + 1 :]
    spoilt = generator.choice([good[:place], b"", b"<html>404</html>", *([flipped] * 3 if readable else [])])
    storage.write_bytes(uri, spoilt)
    return good


def _harmless(scene: Scene, trial: Trial, uri: str, good: bytes) -> bool:
    """Whether the job could rightly continue with the damaged file.

    Either the file still has the same content (the flipped bit is in the name of the program that wrote it), or it
    cannot be read but the job did not need it (a published mask).
    """
    if scene.status != DONE:
        return False
    try:
        if decode(storage.read_bytes(uri)).equals(decode(good), check_metadata=True):
            storage.write_bytes(uri, good)
            return True
        trial.problems.append(f"ended with 0, and {uri} can be read and says something else")
    except (OSError, ValueError):
        storage.write_bytes(uri, good)
        return True
    storage.write_bytes(uri, good)
    return True
