"""Carries out a frozen plan on Ray: chunks through the stages, shards published as they fill, until none is left."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy
from ray.exceptions import RayError

from ddpm_seg.pipeline.cluster import Placement
from ddpm_seg.pipeline.progress import Progress
from ddpm_seg.pipeline.stages import Row, StageError
from ddpm_seg.runs.commit import Derive, settle_shard
from ddpm_seg.runs.layout import finished_chunks, published_shards
from ddpm_seg.runs.ledger import KnownRun

# Enough to hide the way between tasks and actor, little enough to lose when an actor dies.
CHUNKS_IN_FLIGHT = 2

STAGES = ("read", "segment", "write")


logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stages:
    """CPU task, resident actor, CPU task; each takes a row and returns one."""

    before: Callable[[Row], Row]
    actor: type
    actor_arguments: dict[str, object]
    after: Callable[[Row], Row]


@dataclass(kw_only=True, slots=True)
class Outcome:
    """Rows by outcome ("ok" or type of error) over the whole run; seconds of this attempt's `timed` images."""

    counts: Counter[str] = field(default_factory=Counter)
    timed: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))


def execute(
    run: KnownRun,
    *,
    to_row: Callable[[int, int, pa.Table], Row],
    stages: Stages,
    placement: Placement,
    derived: Mapping[str, Derive],
) -> Outcome:
    """Does what is left of `run` and returns when every shard is published, with its derived tables.

    Raises StageError where a stage fails or the cluster goes away.
    """
    start = time.monotonic()
    outcome, sizes, todo = Outcome(), run.manifest.shard_sizes(), _left_to_do(run)
    open_chunks = Counter(shard for shard, _ in todo)
    settle: Any = ray.remote(num_cpus=0)(cast(Any, settle_shard))

    def settled(shard: int) -> ray.ObjectRef:
        rows, chunks = sizes[shard]
        return settle.remote(run.layout, shard, chunks=chunks, rows=rows, derived=derived)

    with _failures_named(run.layout.run_id):
        waiting = [settled(shard) for shard in sizes if not open_chunks[shard]]
        left = sum(items.num_rows for items in todo.values())
        with Progress(
            run.layout.run_id, total=run.manifest.items.num_rows, done=run.manifest.items.num_rows - left
        ) as bar:
            rows = [to_row(shard, chunk, items) for (shard, chunk), items in todo.items()]
            for done in _stream(rows, stages, placement) if rows else ():
                bar.add(done["images"], done["errors"])
                outcome.timed += done["images"]
                for stage in STAGES:
                    outcome.seconds[stage] += done[f"{stage}_seconds"]
                open_chunks[done["shard"]] -= 1
                if not open_chunks[done["shard"]]:
                    waiting.append(settled(done["shard"]))
            for counts in ray.get(waiting):
                outcome.counts.update(counts)
    outcome.seconds["total"] = time.monotonic() - start
    return outcome


def _left_to_do(run: KnownRun) -> dict[tuple[int, int], pa.Table]:
    """Inputs by (shard, chunk) of what is neither published nor finished."""
    published, finished = published_shards(run.layout), finished_chunks(run.layout)
    return {
        (shard, chunk): items
        for shard, chunk, items in run.manifest.chunks()
        if shard not in published and (shard, chunk) not in finished
    }


@contextmanager
def _failures_named(run_id: str) -> Iterator[None]:
    """Turns Ray's errors into StageError, with the traceback in the log."""
    try:
        yield
    except RayError as error:
        logger.error("%s: a stage failed", run_id, exc_info=True)
        # Ray's message is the worker's traceback, which ends with what went wrong.
        raise StageError(str(error).strip().rpartition("\n")[2]) from error


def _stream(rows: list[Row], stages: Stages, placement: Placement) -> Iterator[Row]:
    """Result rows as they are done, in any order."""
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)  # it warns that its bars are off
    source = ray.data.from_items(rows, override_num_blocks=len(rows))
    source.context.enable_progress_bars = False
    dataset = (
        source.map(stages.before, num_cpus=placement.task_cpus)
        .map(
            stages.actor,
            fn_constructor_kwargs=stages.actor_arguments,
            compute=ActorPoolStrategy(size=placement.actors, max_tasks_in_flight_per_actor=CHUNKS_IN_FLIGHT),
            num_cpus=placement.actor_cpus,
            num_gpus=placement.actor_gpus or None,
            # It selects nothing, but makes this stage's request differ from the last one's. Ray fuses stages that ask
            # for the same: reading and decoding would then run inside the actors, one chunk after another.
            label_selector={},
        )
        .map(stages.after, num_cpus=placement.task_cpus)
    )
    yield from dataset.iter_rows()


def as_stage(function: Callable[..., Row], *arguments: object) -> Callable[[Row], Row]:
    """`function(row, *arguments)` as a stage; a name of its own shows in Ray's dashboard."""
    bound = partial(_call, function, arguments)
    bound.__name__ = function.__name__  # type: ignore[attr-defined]
    return bound


def _call(function: Callable[..., Row], arguments: tuple[object, ...], row: Row) -> Row:
    return function(row, *arguments)
