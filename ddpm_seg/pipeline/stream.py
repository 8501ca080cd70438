"""Chunks through Ray Data: CPU tasks, resident actors, CPU tasks. What goes wrong in them is in their result."""

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

# Enough to hide the way between tasks and actor, little enough to lose when an actor dies.
CHUNKS_IN_FLIGHT = 2

# Processes of one actor that may die while they load the model. Ray starts the next one without end and without a word.
LOADS = 3
NOT_LOADED = f"the worker process died {LOADS} times while it loaded the model; is there memory for it?"

# How long nothing may come of any stage. Ray's default is half an hour; 256 images of the published size take two cores
# three hours.
LONGEST_ON_GPU_S, LONGEST_ON_CPU_S = 0.5 * 3600, 6.0 * 3600

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Stages:
    """CPU task, resident actor, CPU task. Rows go from one to the next; the last makes the rows of the table."""

    before: Callable[[Row], Row]
    actor: type
    actor_arguments: dict[str, object]
    after: Callable[[Row], pa.Table]
    killed: Callable[[Row], pa.Table]
    """Error rows for what `before` would get, where no worker outlives it."""


def as_stage(function: Callable[..., T], *arguments: object) -> Callable[[Row], T]:
    """`function(row, *arguments)` as a stage."""

    @wraps(function)  # the name shows in Ray's dashboard
    def stage(row: Row) -> T:
        return function(row, *arguments)

    return stage


def stream(
    rows: Iterable[Row], stages: Stages, allocation: Allocation, run: PlannedRun, *, may_be_lost: int
) -> Generator[Row, None, None]:
    """Does `rows`, one a chunk; yields a `result` of each as it is done, in any order.

    A chunk whose workers died again and again has none; once there are more of those than `may_be_lost`, the rest is
    left undone too. Inputs are in Ray's store while they wait, and not in the driver.
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
    """Writes the file of the chunk that `row` is, and returns what the driver needs to know.

    That is `shard`, `chunk`, seconds by stage and, as JSON, `outcomes` and the `uncertainties` of labelled images.
    """
    start = time.perf_counter()
    write_chunk(run, row["shard"], row["chunk"], table)
    return {
        "shard": row["shard"],
        "chunk": row["chunk"],
        "failure": "",
        "outcomes": json.dumps(outcomes(table)),
        "uncertainties": json.dumps(table["uncertainty"].drop_null().to_pylist()),
        "read_seconds": row.get("read_seconds", 0.0),
        "segment_seconds": row.get("segment_seconds", 0.0),
        "write_seconds": time.perf_counter() - start,
    }


def _dataset(rows: list[Row], stages: Stages, allocation: Allocation, run: PlannedRun) -> Dataset:
    run_id = run.layout.run_id
    source = ray.data.from_items(rows, override_num_blocks=len(rows))
    source.context.enable_progress_bars = False
    # What Ray Data sets aside for a stage beyond one task is missing where a small cluster's last stage needs its one.
    source.context.op_resource_reservation_ratio = 0.0
    limit_waiting(source.context, CHUNKS_IN_FLIGHT * allocation.actors)
    source.context.execution_no_progress_timeout_s = LONGEST_ON_GPU_S if allocation.actor_gpus else LONGEST_ON_CPU_S
    after = wraps(stages.after)(partial(_finish, stages.after, run))
    resident = type(stages.actor.__name__, (_Resident,), {})  # the name shows in Ray's dashboard
    with warnings.catch_warnings():
        # Ray 2.60 says that options without a name of their own will go, and has none yet for retries.
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
                compute=ActorPoolStrategy(size=allocation.actors, max_tasks_in_flight_per_actor=CHUNKS_IN_FLIGHT),
                num_cpus=allocation.actor_cpus,
                num_gpus=allocation.actor_gpus or None,
                # It selects nothing, but makes this stage's request differ from the last one's. Ray fuses stages that
                # ask for the same: reading and decoding would then run inside the actors, one chunk after another.
                label_selector={},
                max_task_retries=TASK_RETRIES,
            )
            .map(_guarded(after, run_id), num_cpus=allocation.task_cpus, max_retries=TASK_RETRIES)
        )


class _Resident:
    """`actor` in an actor of Ray Data. That it cannot be made is found in its rows, like other failures."""

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
    """`function`, with what it raises in the row: Ray would drop the row, as it does those of workers that died."""

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
    """The traceback, then a line that says it all."""
    line = storage.redact_text(f"{type(error).__name__}: {error}")
    return f"{redact_lines(''.join(traceback.format_exception(error)))}\n{line}"
