"""Disturbed runs one after another: a fault, the same command until it is done, and a comparison."""

from __future__ import annotations

import dataclasses
import random
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from ddpm_seg import storage
from tests.chaos.comparison import Rows, compare, count_ok, digest, read_manifests, read_rows
from tests.chaos.faults import Fault, Scene
from tests.chaos.journal import Cost, cost
from tests.chaos.place import Place, StorageKind
from tests.chaos.subject import JobName

# How often faults at random moments come for each time that a process dies at a step.
AT_RANDOM = 4
MOST_ATTEMPTS = 6
ATTEMPT_SECONDS = 600.0
# Of another driver that seems alive, one has to wait until its beat is stale.
ALREADY_RUNNING = 5
WAIT_SECONDS = 10.0
# Done; interrupted, but resumable.
PROMISED_EXITS = (0, 4, ALREADY_RUNNING)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """An undisturbed run."""

    rows: Rows
    digest: str
    """16 hex digits over all rows, pictures and masks among them."""
    seconds: float
    chunks: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What came of one disturbed run. `exits` are the attempts' exit statuses; -9 is SIGKILL, None one that hung."""

    storage: StorageKind
    seed: int
    job: JobName
    actors: int
    reference: str
    """Digest of the undisturbed run's rows."""
    kind: str
    fault: str
    struck: bool
    exits: tuple[int | None, ...]
    seconds: float
    lost: int
    doubled: int
    differing: int
    segmented_again: int
    begun_again: int
    done_again: int
    problems: tuple[str, ...]

    @property
    def as_quiet(self) -> bool:
        """Whether nothing tells it from an undisturbed run."""
        return not (self.lost or self.doubled or self.differing or self.problems)


def deal(faults: Sequence[Fault], seed: int) -> Iterator[Fault]:
    """Faults without end: all of them in some order, then those at random moments some times more, and again."""
    generator = random.Random(seed)
    while faults:
        for turn in range(AT_RANDOM):
            hand = [fault for fault in faults if fault.at_random or not turn]
            generator.shuffle(hand)
            yield from hand


def undisturbed(place: Place) -> Reference:
    """Raises RuntimeError where not even that works."""
    output, start = place.new_output(), time.monotonic()
    log = place.folder / "reference.log"
    with place.job(output, log) as job:
        code = job.wait(ATTEMPT_SECONDS)
    if code:
        raise RuntimeError(f"the undisturbed job ended with {code}:\n{log.read_text(errors='replace')[-3000:]}")
    seconds, rows = time.monotonic() - start, read_rows(output, place.subject.table)
    if problems := compare(rows, output, place.subject).problems:
        raise RuntimeError(f"the undisturbed job's output: {problems}")
    (manifest,) = read_manifests(output)
    chunks = manifest.group_by(["shard", "chunk"]).aggregate([]).num_rows
    return Reference(rows=rows, digest=digest(rows), seconds=seconds, chunks=chunks)


def disturbed(place: Place, reference: Reference, fault: Fault, seed: int, keep: Path) -> Record:
    """One fault in the first attempt, then attempts until one succeeds. What failed leaves its logs under `keep`."""
    place.forget()
    output, start = place.new_output(), time.monotonic()
    attempts = _attempts(place, reference, fault, seed, output)
    seconds = time.monotonic() - start
    verdict, spent = compare(reference.rows, output, place.subject), _cost(place, reference, output, attempts.drivers)
    record = Record(
        storage=place.kind,
        seed=seed,
        job=place.subject.name,
        actors=place.actors,
        reference=reference.digest,
        kind=fault.kind,
        fault=str(fault),
        struck=attempts.struck,
        exits=attempts.exits,
        seconds=round(seconds, 1),
        **dataclasses.asdict(spent),
        lost=verdict.lost,
        doubled=verdict.doubled,
        differing=verdict.differing,
        problems=(*_odd_exits(attempts.exits, fault, place.folder), *verdict.problems),
    )
    if not record.as_quiet:
        _keep_logs(place.folder, keep / f"{place.kind}-{seed}")
    storage.delete(output)
    return record


@dataclass(frozen=True, kw_only=True, slots=True)
class _Attempts:
    exits: tuple[int | None, ...]
    drivers: frozenset[int]
    struck: bool


def _attempts(place: Place, reference: Reference, fault: Fault, seed: int, output: str) -> _Attempts:
    exits: list[int | None] = []
    drivers, struck = set(), False
    while len(exits) < MOST_ATTEMPTS and 0 not in exits:
        if exits and exits[-1] == ALREADY_RUNNING:
            time.sleep(WAIT_SECONDS)
        with place.job(output, _log(place.folder, len(exits))) as job:
            drivers.add(job.pid)
            if not exits:
                scene = Scene(
                    place=place,
                    job=job,
                    output=output,
                    generator=random.Random(seed),
                    seconds=reference.seconds,
                    chunks=reference.chunks,
                )
                struck = fault.strike(scene)
            exits.append(_end_of(job))
        place.cluster.start_again()
    return _Attempts(exits=tuple(exits), drivers=frozenset(drivers), struck=struck)


def _log(folder: Path, attempt: int) -> Path:
    return folder / f"attempt-{attempt}.log"


def _end_of(job: subprocess.Popen[bytes]) -> int | None:
    """Exit status; None for a job that hangs."""
    try:
        return job.wait(ATTEMPT_SECONDS)
    except subprocess.TimeoutExpired:
        return None


def _odd_exits(exits: Sequence[int | None], fault: Fault, folder: Path) -> list[str]:
    """Of each attempt that ended in a way which is neither promised nor the fault's doing, how."""
    odd = []
    for attempt, status in enumerate(exits):
        if status not in PROMISED_EXITS and not (attempt == 0 and status in fault.ends):
            log = _log(folder, attempt).read_text(errors="replace").strip()
            ended = "hung" if status is None else f"ended with {status}"
            odd.append(f"attempt {attempt + 1} {ended}: {log.rpartition(chr(10))[2][:300]}")
    if exits[-1] != 0:
        odd.append(f"not done after {len(exits)} attempts")
    return odd


def _cost(place: Place, reference: Reference, output: str, drivers: Set[int]) -> Cost:
    manifests = read_manifests(output)
    if not manifests:
        return Cost(segmented_again=0, begun_again=0, done_again=0)
    return cost(place.events(), manifests[0], output, ok=count_ok(reference.rows), drivers=drivers)


def _keep_logs(folder: Path, kept: Path) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    for pattern in ("attempt-*.log", "journal"):
        for file in folder.glob(pattern):
            shutil.copy(file, kept / file.name)
