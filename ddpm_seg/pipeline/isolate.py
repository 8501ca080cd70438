"""Retries chunks whose workers died: each alone in a process, then image by image, to find the image that kills it."""

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

# How many processes must die on the same work before the work is blamed. A single death may have another cause, such
# as a dying node or other processes that take all memory.
DEATHS_TO_BLAME = 3

# If this many images in a row kill their processes, the cluster is blamed instead of the images.
KILLERS_IN_A_ROW = 10

logger = logging.getLogger(__name__)


def isolate(
    chunks: list[Chunk],
    to_row: Callable[[int, int, pa.Table], Row],
    stages: Stages,
    allocation: Allocation,
    run: PlannedRun,
) -> Iterator[Row]:
    """Yields the `result` of each of `chunks`; an image that kills every process gets its row from `stages.killed`.

    Each chunk is first tried as a whole, so that its results are bit-identical to those without a failure. Raises
    StageError if the cluster rather than the images seems to kill the processes.
    """
    process = _Process(stages, allocation, run.layout.run_id)
    try:
        for shard, chunk, items in chunks:
            row = to_row(shard, chunk, items)
            table = process.run(row)
            if table is None:
                logger.warning("%s: this chunk kills its process", place(run.layout.run_id, shard, chunk))
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
            f"{KILLERS_IN_A_ROW} images in a row, the last one {uri}, each killed {DEATHS_TO_BLAME} processes that did "
            "nothing else; the cluster is the more likely cause: check its memory and drivers"
        )
    return process.stages.killed(row)


class _Process:
    """A worker process that runs all stages for one row at a time; it is replaced if it dies."""

    def __init__(self, stages: Stages, allocation: Allocation, run_id: str) -> None:
        self.stages, self.run_id = stages, run_id
        self.killed_in_a_row = 0
        self._worker: Any = None
        self._class: Any = cast(Any, ray.remote(_Worker)).options(
            num_cpus=allocation.actor_cpus, num_gpus=allocation.actor_gpus or None
        )

    def run(self, row: Row) -> pa.Table | None:
        """The rows of the table; None if every process that tried died. Raises StageError if no process starts."""
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
