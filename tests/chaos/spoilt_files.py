"""A file that an earlier night or attempt left is no longer what it was."""

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
    """The next night does its work as if nothing were."""
    _first_night(trial)
    uri = f"{trial.output}/{FIRST_RUN}/summary.json"
    good = _spoil(uri, trial.generator)
    trial.until_done()
    if len(trial.attempts) > 1:
        trial.problems.append(f"not done at once: {trial.attempts[0].last_line[:300]}")
    storage.write_bytes(uri, good)
    return True


def _manifest(put_back: bool, trial: Trial) -> bool:
    """The next night stops and names it. Then a copy is put back, or the run's folder deleted, as the message says."""
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
    """A resume stops and names it; deleted, as the message says, it is made again."""
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
    """Of finished runs, only a night that tries errors again reads shards. It stops and names the one; with that put
    back, an ordinary night goes on."""
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
    """Overwrites a file with what a bad disk, a full one or a careless hand makes of it, which may be readable still;
    what it was."""
    good = storage.read_bytes(uri)
    place = generator.randrange(len(good))
    flipped = good[:place] + bytes([good[place] ^ 1 << generator.randrange(8)]) + good[place + 1 :]
    spoilt = generator.choice([good[:place], b"", b"<html>404</html>", *([flipped] * 3 if readable else [])])
    storage.write_bytes(uri, spoilt)
    return good


def _harmless(scene: Scene, trial: Trial, uri: str, good: bytes) -> bool:
    """Whether the job went on, and nobody was deceived: the file says what it said (a bit in the name of the program
    that wrote it), or cannot be read, and the job had no use for it (a published mask)."""
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
