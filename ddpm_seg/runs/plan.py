"""Finds which of the requested items (images or samples) an output still lacks, and makes a run of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ddpm_seg.runs.done import are_planned, are_published, in_published_containers
from ddpm_seg.runs.forgotten import without_forgotten
from ddpm_seg.runs.ledger import KnownRun, find_runs, freeze_run, next_number
from ddpm_seg.runs.manifest import INSIDE, UNIT, Manifest, RunInfo, plan
from ddpm_seg.runs.view import read_view


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """What there is to do: first finish the `unfinished` runs, then do the `new` items as run number `next_number`."""

    output: str
    table: str
    config_hash: str
    unfinished: list[KnownRun]
    new: pa.Table
    """Rows with the columns of `manifest.INPUTS` and any further columns of the items."""
    retried: int
    """How many of `new` had an error before."""
    next_number: int
    already_done: int
    """Items that finished runs contain, not counting those of `new`."""
    last_run: str | None
    """Id of the newest run so far; None if there is none."""
    last_options: Mapping[str, object]
    """The options in that run's manifest."""

    @property
    def items_left(self) -> int:
        """Number of items in the unfinished runs, including those that are done already."""
        return sum(run.manifest.items.num_rows for run in self.unfinished)


def plan_run(
    items: pa.Table,
    output: str,
    tables: Sequence[str],
    config_hash: str,
    *,
    retry_errors: bool = False,
    redo: Mapping[str, str] | None = None,
    limit: int | None = None,
) -> RunPlan:
    """Plans the `items` that no run of this configuration contains, without forgotten ones. Only reads.

    `items` has the columns of `manifest.INPUTS`, and possibly more. `tables` names the published table, then the
    derived ones. With `retry_errors`, items whose latest row is an error are planned again. `redo` has the
    `image_id`s of items to plan again even if they are done, each with the run that was judged ("" for any run): an
    item whose latest row is of a later run stays done. `limit` is the maximum number of items in the new run. Raises
    DamagedFileError for a file that cannot be read.
    """
    items = without_forgotten(items, output)
    number = next_number(output, config_hash, tables)
    runs = find_runs(output, tables[0], config_hash)
    unfinished, finished = [run for run in runs if not run.finished], [run for run in runs if run.finished]
    waiting, done = are_planned(items, unfinished), are_published(items, finished)
    if INSIDE in items.column_names:
        done = pc.or_(done, in_published_containers(items, finished))
    failed = _failed(output, tables[0], config_hash) if retry_errors else pa.chunked_array([], pa.string())
    repeated = pc.and_(done, pc.is_in(items["image_id"], value_set=failed))
    judged = pc.and_(done, pc.is_in(items["image_id"], value_set=_judged(redo or {}, output, tables[0], config_hash)))
    state = pc.if_else(repeated, "again", pc.if_else(judged, "redo", pc.if_else(done, "done", "new")))
    state = pc.if_else(waiting, "waiting", state)
    left = pc.is_in(state, value_set=pa.array(["again", "redo", "new"]))
    return RunPlan(
        output=output,
        table=tables[0],
        config_hash=config_hash,
        unfinished=unfinished,
        new=items.filter(left).slice(0, limit),
        retried=_count(state.filter(left).slice(0, limit), "again"),
        next_number=number,
        already_done=_count(state, "done"),
        last_run=runs[-1].layout.run_id if runs else None,
        last_options=runs[-1].info.config if runs else {},
    )


def freeze_new(todo: RunPlan, config: Mapping[str, object], *, shard_size: int, chunk_size: int) -> KnownRun | None:
    """Makes a run of the new items and writes its manifest, with the options `config` in it.

    Returns None if another driver has planned the same configuration since `todo` was made: plan again.
    """
    items = plan(todo.new, shard_size, chunk_size)
    sizes: dict[str, object] = {"chunk_size": chunk_size}
    if UNIT in items.column_names:  # from the rows it could not be told once some are forgotten
        sizes["shards"] = items["shard"][-1].as_py() + 1
    info = RunInfo(
        run_id="",
        config_hash=todo.config_hash,
        created_at=datetime.now(timezone.utc),
        config={**config, **sizes},
    )
    manifest = Manifest(info=info, items=items)
    return freeze_run(todo.output, todo.table, manifest, todo.next_number)


def _failed(output: str, table: str, config_hash: str) -> pa.ChunkedArray[Any]:
    """The `image_id` of every item whose latest row is an error."""
    try:
        rows = read_view(output, table, config_hash=config_hash, columns=["image_id", "status"])
    except FileNotFoundError:  # nothing was published yet
        return pa.chunked_array([], pa.string())
    return rows.filter(pc.equal(rows["status"], "error"))["image_id"]


def _judged(redo: Mapping[str, str], output: str, table: str, config_hash: str) -> pa.Array[Any]:
    """The ids of `redo`, without those whose latest row is of a later run than the judged one."""
    if not any(redo.values()):
        return pa.array(redo, pa.string())
    try:
        rows = read_view(
            output, table, config_hash=config_hash, columns=["image_id", "run_id"], image_ids=list(redo)
        ).to_pylist()
    except FileNotFoundError:  # nothing was published yet
        rows = []
    later = {row["image_id"] for row in rows if redo.get(row["image_id"]) and row["run_id"] > redo[row["image_id"]]}
    return pa.array([name for name in redo if name not in later], pa.string())


def _count(states: pa.ChunkedArray[Any], state: str) -> int:
    return pc.sum(pc.equal(states, state)).as_py() or 0
