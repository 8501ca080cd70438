"""Chunks that did not come back: each alone in a process of its own, then image by image, until the killer is known."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, cast

import pyarrow as pa
import ray

from ddpm_seg.cluster.failures import DEATHS, one_line
from ddpm_seg.cluster.nodes import Allocation
from ddpm_seg.errors import StageError
from ddpm_seg.pipeline.log_place import log_as, place
from ddpm_seg.pipeline.publish import Chunk
from ddpm_seg.pipeline.row import Row
from ddpm_seg.pipeline.stream import LOADS, NOT_LOADED, Stages, result
from ddpm_seg.runs.planned import PlannedRun

# Processes that must die of one piece of work before it is to blame: one may fall to a node that dies or to others
# that take the memory.
DEATHS_TO_BLAME = 3

# With so many images one after another that no process outlives, the cluster is to blame, and none of them.
KILLERS_IN_A_ROW = 10

logger = logging.getLogger(__name__)


def isolate(
    chunks: list[Chunk],
    to_row: Callable[[int, int, pa.Table], Row],
    stages: Stages,
    allocation: Allocation,
    run: PlannedRun,
) -> Iterator[Row]:
    """Yields the `result` of each of `chunks`; an image that no process outlives gets the row of `stages.killed`.

    A whole chunk is tried first, so that what was only a killer's neighbour is done as it would have been, to the last
    bit. Raises StageError where it is not the images that kill.
    """
    process = _Process(stages, allocation, run.layout.run_id)
    try:
        for shard, chunk, items in chunks:
            row = to_row(shard, chunk, items)
            table = process.run(row)
            if table is None:
                logger.warning("%s: kills its process", place(run.layout.run_id, shard, chunk))
                images = [items.slice(index, 1) for index in range(items.num_rows)]
                table = pa.concat_tables([_judge(process, to_row(shard, chunk, image), image) for image in images])
            yield result(row, table, run)
    finally:
        process.end()


def _judge(process: _Process, row: Row, image: pa.Table) -> pa.Table:
    table = process.run(row)
    if table is not None:
        process.killed_in_a_row = 0
        return table
    uri = image["uri"][0].as_py()
    logger.warning("%s: %s kills its process", place(process.run_id, row["shard"], row["chunk"]), uri)
    process.killed_in_a_row += 1
    if process.killed_in_a_row == KILLERS_IN_A_ROW:
        raise StageError(
            f"{KILLERS_IN_A_ROW} images in a row, the last one {uri}, killed each of {DEATHS_TO_BLAME} processes that "
            "had them alone: more likely the cluster is at fault, its memory or a driver"
        )
    return process.stages.killed(row)


class _Process:
    """One worker with all stages in it, which has one row at a time; another one where it dies."""

    def __init__(self, stages: Stages, allocation: Allocation, run_id: str) -> None:
        self.stages, self.run_id = stages, run_id
        self.killed_in_a_row = 0
        self._worker: Any = None
        self._class: Any = cast(Any, ray.remote(_Worker)).options(
            num_cpus=allocation.actor_cpus, num_gpus=allocation.actor_gpus or None
        )

    def run(self, row: Row) -> pa.Table | None:
        """The table's rows; None where each process that tried died. Raises StageError where none can be had."""
        for _ in range(DEATHS_TO_BLAME):
            self._worker = self._worker or self._start()
            try:
                return ray.get(self._worker.run.remote(row))
            except DEATHS:
                self.end()
        return None

    def end(self) -> None:
        if self._worker is not None:
            ray.kill(self._worker)
            self._worker = None

    def _start(self) -> Any:
        for attempt in range(1, LOADS + 1):
            worker = self._class.remote()
            try:
                ray.get(worker.load.remote(self.stages, self.run_id))
                return worker
            except DEATHS as error:
                if attempt == LOADS:
                    raise StageError(f"{NOT_LOADED} The last one: {one_line(error)}") from error
        raise AssertionError


class _Worker:
    def load(self, stages: Stages, run_id: str) -> None:
        self.stages, self.run_id = stages, run_id
        self.actor = stages.actor(**stages.actor_arguments)

    def run(self, row: Row) -> pa.Table:
        log_as(self.run_id, row["shard"], row["chunk"])
        return self.stages.after(self.actor(self.stages.before(row)))
