"""Sends chunks through Ray Data: CPU tasks, resident actors, CPU tasks. Errors in them are returned in the results."""

from __future__ import annotations

import json
import logging
import time
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, TypeVar, cast

import pyarrow as pa
import ray
import ray.data
from ray.data import ActorPoolStrategy, Dataset
from ray.exceptions import RayActorError
from ray.util.annotations import RayDeprecationWarning

from ddpm_seg import storage
from ddpm_seg.cluster.failures import DEATHS, TASK_RETRIES, one_line, redact_lines
from ddpm_seg.cluster.nodes import Allocation
from ddpm_seg.cluster.ray_internals import delete_count, keep_count, limit_waiting, quieten_ray_data, read_count
from ddpm_seg.pipeline.log_place import log_as
from ddpm_seg.pipeline.row import Row
from ddpm_seg.runs.commit import outcomes, write_chunk
from ddpm_seg.runs.planned import PlannedRun

# Chunks per actor at once: enough to hide the transfer between tasks and actors, few enough to lose if an actor dies.
CHUNKS_IN_FLIGHT = 2

# How often one actor's process may die while it loads the model. Ray itself would silently restart it forever.
LOADS = 3
NOT_LOADED = f"the worker process died {LOADS} times while it loaded the model; is there enough memory for it?"

# The longest time without a result from any stage. Ray's default is half an hour; on two cores, 256 images of the
# published size take three hours.
LONGEST_ON_GPU_S, LONGEST_ON_CPU_S = 0.5 * 3600, 6.0 * 3600

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stages:
    """The three stages that rows pass through: CPU task, resident actor, CPU task. The last makes the table's rows."""

    before: Callable[[Row], Row]
    actor: type
    actor_arguments: dict[str, object]
    after: Callable[[Row], pa.Table]
    killed: Callable[[Row], pa.Table]
    """Makes error rows from the input of `before`, for images that kill every worker."""


def as_stage(function: Callable[..., T], *arguments: object) -> Callable[[Row], T]:
    """`function(row, *arguments)` as a stage."""

    @wraps(function)  # the name shows in Ray's dashboard
    def stage(row: Row) -> T:
        return function(row, *arguments)

    return stage


def stream(
    rows: Iterable[Row], stages: Stages, allocation: Allocation, run: PlannedRun, *, may_be_lost: int
) -> Generator[Row, None, None]:
    """Sends `rows`, one per chunk, through the stages; yields the `result` of each when it is done, in any order.

    A chunk whose workers died repeatedly has no result; after more than `may_be_lost` of those, the remaining chunks
    are not done. Waiting inputs are in Ray's store, not in the driver.
    """
    quieten_ray_data()
    dataset = _dataset([{**row, "failure": ""} for row in rows], stages, allocation, run)
    dataset.context.max_errored_blocks = may_be_lost
    try:
        with closing(cast(Any, iter(dataset.iter_rows()))) as results:
            yield from results
    except DEATHS as error:
        if isinstance(error, RayActorError) and error.actor_init_failed:
            raise
        logger.warning("%s: workers died more than %d times: %s", run.layout.run_id, may_be_lost, one_line(error))


def result(row: Row, table: pa.Table, run: PlannedRun) -> Row:
    """Writes the file of the chunk `row`, and returns what the driver needs to know.

    That is `shard`, `chunk`, an empty `failure`, the seconds per stage, `computed_by` and, as JSON, `outcomes` and the
    `uncertainties` of labelled images.
    """
    start = time.perf_counter()
    write_chunk(run, row["shard"], row["chunk"], table)
    return {
        "shard": row["shard"],
        "chunk": row["chunk"],
        "failure": "",
        "outcomes": json.dumps(outcomes(table)),
        "uncertainties": json.dumps(table["uncertainty"].drop_null().to_pylist()),
        "computed_by": row.get("computed_by", ""),
        "read_seconds": row.get("read_seconds", 0.0),
        "segment_seconds": row.get("segment_seconds", 0.0),
        "write_seconds": time.perf_counter() - start,
    }


def _dataset(rows: list[Row], stages: Stages, allocation: Allocation, run: PlannedRun) -> Dataset:
    run_id = run.layout.run_id
    actors = min(allocation.actors, len(rows))  # more would load the model for nothing
    source = ray.data.from_items(rows, override_num_blocks=len(rows))
    source.context.enable_progress_bars = False
    # Ray Data reserves resources per stage beyond its first task; on a small cluster that starves the last stage.
    source.context.op_resource_reservation_ratio = 0.0
    limit_waiting(source.context, CHUNKS_IN_FLIGHT * actors)
    source.context.execution_no_progress_timeout_s = LONGEST_ON_GPU_S if allocation.actor_gpus else LONGEST_ON_CPU_S
    after = wraps(stages.after)(partial(_finish, stages.after, run))
    resident = type(stages.actor.__name__, (_Resident,), {})  # the name shows in Ray's dashboard
    with warnings.catch_warnings():
        # Ray 2.60 warns that options without a named parameter will be removed, but has no parameter for retries yet.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        return (
            source.map(_guarded(stages.before, run_id), num_cpus=allocation.task_cpus, max_retries=TASK_RETRIES)
            .map(
                resident,
                fn_constructor_kwargs={
                    "actor": stages.actor,
                    "arguments": stages.actor_arguments,
                    "run_id": run_id,
                },
                compute=ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=CHUNKS_IN_FLIGHT),
                num_cpus=allocation.actor_cpus,
                num_gpus=allocation.actor_gpus or None,
                # An empty selector selects every node, but makes this stage's resource request differ from that of the
                # stage before. Ray would fuse stages with equal requests, so that reading and decoding would run inside
                # the actors, one chunk after another.
                label_selector={},
                max_task_retries=TASK_RETRIES,
            )
            .map(_guarded(after, run_id), num_cpus=allocation.task_cpus, max_retries=TASK_RETRIES)
        )


class _Resident:
    """Makes `actor` inside a Ray Data actor. If that fails, every row gets the failure, as for other errors."""

    def __init__(self, actor: type, arguments: dict[str, object], run_id: str) -> None:
        self.failure = ""
        loads = f"ddpm_seg/loads/{ray.get_runtime_context().get_actor_id()}"
        begun = read_count(loads)
        if begun == LOADS:
            self.failure = NOT_LOADED
            return
        keep_count(loads, begun + 1)
        try:
            self.call = _guarded(actor(**arguments), run_id)
        except Exception as error:
            self.failure = _described(error)
        delete_count(loads)

    def __call__(self, row: Row) -> Row:
        return {**row, "payload": b"", "failure": row["failure"] or self.failure} if self.failure else self.call(row)


def _finish(after: Callable[[Row], pa.Table], run: PlannedRun, row: Row) -> Row:
    start = time.perf_counter()
    done = result(row, after(row), run)
    return {**done, "write_seconds": time.perf_counter() - start}


def _guarded(function: Callable[[Row], Row], run_id: str) -> Callable[[Row], Row]:
    """Wraps `function` so that its exception becomes the row's `failure`: Ray would drop the row, as if its worker had
    died."""

    @wraps(function)
    def stage(row: Row) -> Row:
        if row["failure"]:
            return row
        log_as(run_id, row["shard"], row["chunk"])
        try:
            return {"failure": "", **function(row)}
        except Exception as error:
            return {**row, "payload": b"", "failure": _described(error)}

    return stage


def _described(error: Exception) -> str:
    """The traceback, followed by one line with the error's type and message."""
    line = storage.redact_text(f"{type(error).__name__}: {error}")
    return f"{redact_lines(''.join(traceback.format_exception(error)))}\n{line}"
