"""Does disturbed runs one after another: causes a fault, repeats the command until it succeeds, and compares."""

from __future__ import annotations

import random
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddpm_seg import storage
from tests.chaos.comparison import Verdict, compare, count_ok, digest, read_manifests
from tests.chaos.faults import Fault
from tests.chaos.journal import Cost, cost, images_segmented
from tests.chaos.place import CHECKOUT, Place, StorageKind
from tests.chaos.reference import References
from tests.chaos.subject import JobName
from tests.chaos.trial import Trial

# How many faults at random moments are dealt for each fault at a step.
AT_RANDOM = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """The result of one disturbed run. `exits` are the exit statuses of its attempts: -9 is SIGKILL, None one that
    hung."""

    storage: StorageKind
    seed: int
    job: JobName
    images: int = 0
    actors: int
    commit: str = ""
    """Version of the code that was disturbed."""
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
    wrong_model: int = 0
    segmented_again: int
    begun_again: int
    done_again: int
    problems: tuple[str, ...]

    @property
    def as_quiet(self) -> bool:
        """Whether it is the same as an undisturbed run."""
        return not (self.lost or self.doubled or self.differing or self.wrong_model or self.problems)


def deal(faults: Sequence[Fault], seed: int) -> Iterator[Fault]:
    """Yields faults without end: all of them in random order, then those at random moments a few times more, and so
    on."""
    generator = random.Random(seed)
    while faults:
        for turn in range(AT_RANDOM):
            hand = [fault for fault in faults if fault.at_random or not turn]
            generator.shuffle(hand)
            yield from hand


def deal_evenly(faults: Sequence[Fault], each: int, done: Mapping[str, int]) -> Iterator[Fault]:
    """Yields each kind of fault `each` times, minus those in `done`; kinds alternate, and so do the details of a
    kind."""
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault)
    for turn in range(each):
        for kind, details in kinds.items():
            if done.get(kind, 0) <= turn:
                yield details[turn % len(details)]


def disturbed(place: Place, references: References, fault: Fault, seed: int, keep: Path) -> Record:
    """Causes one fault and repeats the command until the job is done. Keeps the logs of a failed run under `keep`."""
    own = references.of()
    place.forget()
    generator, start = random.Random(seed), time.monotonic()
    trial = Trial(place=place, references=references, generator=generator, output=place.new_output())
    struck = fault.strike(trial)
    seconds = time.monotonic() - start
    if not trial.expected:
        trial.expect(own.rows)
    verdict, spent = _verdict(trial), _cost(trial)
    record = Record(
        storage=place.kind,
        seed=seed,
        job=place.subject.name,
        images=place.subject.images,
        actors=place.actors,
        commit=_commit(),
        reference=digest(own.rows),
        kind=fault.kind,
        fault=str(fault),
        struck=struck,
        exits=tuple(scene.status for scene in trial.attempts),
        seconds=round(seconds, 1),
        lost=verdict.lost,
        doubled=verdict.doubled,
        differing=verdict.differing,
        wrong_model=verdict.wrong_model,
        segmented_again=_segmented_again(trial),
        begun_again=spent.begun_again,
        done_again=spent.done_again,
        problems=(*trial.problems, *verdict.problems),
    )
    if not record.as_quiet:
        _keep_logs(trial, keep / f"{place.subject.name}-{place.kind}-{seed}")
    for expected in trial.expected:
        storage.delete(expected.output)
    return record


def _verdict(trial: Trial) -> Verdict:
    """Compares all outputs with what is expected."""
    verdicts = [
        compare(
            expected.rows,
            expected.output,
            trial.place.subject,
            runs=expected.runs,
            deleted=expected.deleted,
            other_masks=trial.references.masks_of_other_models(),
        )
        for expected in trial.expected
    ]
    sums = Counter[str]()
    for verdict in verdicts:
        for name in ("lost", "doubled", "differing", "wrong_model"):
            sums[name] += getattr(verdict, name)
    problems = tuple(problem for verdict in verdicts for problem in verdict.problems)
    return Verdict(**{name: sums[name] for name in ("lost", "doubled", "differing", "wrong_model")}, problems=problems)


def _segmented_again(trial: Trial) -> int:
    once = sum(count_ok(expected.rows) for expected in trial.expected) - trial.segmented_before
    return images_segmented(trial.place.events()) - once


def _cost(trial: Trial) -> Cost:
    """Work done more than once, in a single run only: if two runs fetched an image, neither fetched it again."""
    manifests = read_manifests(trial.output)
    if len(manifests) != 1:
        return Cost(begun_again=0, done_again=0)
    drivers = frozenset(scene.job.pid for scene in trial.attempts)
    return cost(trial.place.events(), manifests[0], trial.output, drivers=drivers)


def _keep_logs(trial: Trial, kept: Path) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    for log in (*(scene.log for scene in trial.attempts), trial.place.folder / "journal"):
        if log.exists():
            shutil.copy(log, kept / log.name)


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()
