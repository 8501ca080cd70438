"""Carries out a run's plan on Ray: sends chunks through the stages, and publishes each shard when it is complete."""

from __future__ import annotations

import gc
import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice

import pyarrow as pa
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError

from ddpm_seg.cluster.failures import one_line, redact_lines
from ddpm_seg.cluster.nodes import Allocation
from ddpm_seg.errors import StageError, TooManyErrors
from ddpm_seg.pipeline.isolate import isolate
from ddpm_seg.pipeline.log_place import place
from ddpm_seg.pipeline.prometheus import RunMetrics
from ddpm_seg.pipeline.publish import Chunk, Shards
from ddpm_seg.pipeline.row import STAGES, Row
from ddpm_seg.pipeline.stream import Stages, stream
from ddpm_seg.progress import Progress
from ddpm_seg.runs.commit import Derive, delete_other_chunks
from ddpm_seg.runs.contents import Contents
from ddpm_seg.runs.ledger import KnownRun
from ddpm_seg.runs.planned import PlannedRun

# Chunks per Ray Data pipeline (a wave). Their inputs are in memory at once: for a million images with URIs of 70
# characters, 250 MB in the driver and as much in Ray's store. Between waves, the actors run idle and start again.
WAVE_CHUNKS = 4096

# How many chunks of a wave may repeatedly lose their workers before the wave is stopped.
MAY_BE_LOST = 32

logger = logging.getLogger(__name__)


@dataclass(kw_only=True, slots=True)
class Outcome:
    """Row counts by outcome ("ok" or an error type) over the whole run, and the seconds per stage that this attempt
    spent on its `timed` images."""

    counts: Counter[str] = field(default_factory=Counter)
    timed: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    computed_by: set[str] = field(default_factory=set)

    def add(self, row: Row, images: int) -> None:
        self.timed += images
        for stage in STAGES:
            self.seconds[stage] += row[f"{stage}_seconds"]
        self._compare(row["computed_by"])

    def _compare(self, computed_by: str) -> None:
        if computed_by in self.computed_by | {""}:
            return
        self.computed_by.add(computed_by)
        if len(self.computed_by) > 1:
            logger.warning(
                "actors compute in different ways (%s), so a few pixels depend on which of them labelled the image",
                "; ".join(sorted(self.computed_by)),
            )


def execute(
    run: KnownRun,
    contents: Contents,
    *,
    to_row: Callable[[int, int, pa.Table], Row],
    stages: Stages,
    allocation: Allocation,
    derived: Mapping[str, Derive],
    max_errors: int | None,
    model_id: str,
) -> Outcome:
    """Does what is left of `run`; returns when every shard and its derived tables are published.

    Rows must name this run and `model_id`; results of others under the run's name are done again. Raises StageError if
    a stage fails or the cluster disappears, RunLostError if the run's manifest does, and TooManyErrors as soon as more
    than `max_errors` rows of the run, including those of earlier attempts, are errors.
    """
    start = time.monotonic()
    outcome, limit = Outcome(), _ErrorLimit(run.layout.run_id, max_errors)
    images, metrics = contents.images, RunMetrics(run.layout.run_id, run.layout.config_hash)
    planned = run.planned(model_id=model_id)
    delete_other_chunks(planned)
    with _failures_named(run.layout.run_id):
        shards = Shards(contents, planned, derived)
        limit.add(shards.take_over())
        done = images - shards.images_left()
        with Progress(run.layout.run_id, total=images, unit="images", done=done) as progress:
            while shards.are_left():
                # Close it at once: otherwise the actors live as long as anything holds the exception.
                with closing(_results(shards.left(), planned, to_row, stages, allocation)) as results:
                    for row in results:
                        counts = Counter(json.loads(row["outcomes"]))
                        outcome.add(row, counts.total())
                        if shards.finished(row["shard"], row["chunk"]):
                            metrics.add(row, counts)
                            limit.add(counts)
                            done += counts.total()
                            progress.at(done, errors=limit.errors)
                shards.wait()
        outcome.counts = shards.outcomes()
    outcome.seconds["total"] = time.monotonic() - start
    return outcome


def _results(
    chunks: Iterator[Chunk],
    run: PlannedRun,
    to_row: Callable[[int, int, pa.Table], Row],
    stages: Stages,
    allocation: Allocation,
) -> Generator[Row, None, None]:
    """The `stream.result` of each chunk. Raises StageError if a stage raised or too many workers died."""
    while wave := list(islice(chunks, WAVE_CHUNKS)):
        yield from _wave(wave, run, to_row, stages, allocation)


def _wave(
    wave: list[Chunk],
    run: PlannedRun,
    to_row: Callable[[int, int, pa.Table], Row],
    stages: Stages,
    allocation: Allocation,
) -> Iterator[Row]:
    back = set()
    rows = (to_row(*chunk) for chunk in wave)
    with closing(stream(rows, stages, allocation, run, may_be_lost=MAY_BE_LOST)) as results:
        for row in results:
            if row["failure"]:
                trace, _, line = row["failure"].rpartition("\n")
                where = place(run.layout.run_id, row["shard"], row["chunk"])
                logger.error("%s: a stage failed\n%s", where, trace)
                raise StageError(f"{where}: {line}")
            back.add((row["shard"], row["chunk"]))
            yield row
    lost = [chunk for chunk in wave if chunk[:2] not in back]
    if lost:
        logger.warning("%s: %d chunks lost their workers; doing each by itself", run.layout.run_id, len(lost))
        # Ray Data's actors end when they are garbage-collected, but errors of dead workers refer to them in cycles.
        # Collect now: nothing else would trigger it while this process waits for room for a new actor.
        gc.collect()
        # Ray works in order: if the wave was stopped early, the first lost chunks are those whose workers died.
        yield from isolate(lost[:MAY_BE_LOST], to_row, stages, allocation, run)
    if len(lost) > MAY_BE_LOST:
        raise StageError(f"more than {MAY_BE_LOST} chunks lost their workers; do the workers have enough memory?")


class _ErrorLimit:
    """Counts rows by outcome; `add` raises TooManyErrors once more than `most` are errors (None: no limit)."""

    def __init__(self, run_id: str, most: int | None) -> None:
        self._run_id, self._most = run_id, most
        self._counts = Counter[str]()

    @property
    def errors(self) -> int:
        return self._counts.total() - self._counts["ok"]

    def add(self, counts: Counter[str]) -> None:
        self._counts += counts
        if self._most is None or self.errors <= self._most:
            return
        kinds = [(kind, number) for kind, number in self._counts.most_common() if kind != "ok"]
        shown = ", ".join(f"{number} {kind}" for kind, number in kinds[:3])
        raise TooManyErrors(
            f"{self.errors} of the first {self._counts.total()} images of {self._run_id} have errors ({shown}), and "
            f"{self._most} are allowed. Finished work is kept. Check the input. With a higher --max-errors, or without "
            "it, the same command finishes the run; --retry-errors then labels these images again."
        )


@contextmanager
def _failures_named(run_id: str) -> Iterator[None]:
    """Turns Ray's errors into StageError, and logs their traceback."""
    try:
        yield
    except (RayError, ExecutionTimeoutError) as error:
        logger.error("%s: a stage failed\n%s", run_id, redact_lines(str(error)))
        raise StageError(one_line(error)) from error
