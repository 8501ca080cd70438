"""Finds which of the requested items (images or samples) an output still lacks, and makes runs of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ddpm_seg.runs.done import Known, container_rows
from ddpm_seg.runs.fresh_output import refuse_unfinished
from ddpm_seg.runs.key_set import KeySet
from ddpm_seg.runs.layout import run_number
from ddpm_seg.runs.ledger import KnownRun, find_runs, freeze_run, next_number
from ddpm_seg.runs.manifest import BATCH_ROWS, INSIDE, UNIT, Manifest, RunInfo, plan
from ddpm_seg.runs.upkeep.forgotten import forgotten_filter
from ddpm_seg.runs.view import current_errors, read_view
from ddpm_seg.spool import Spool

MOST_IN_RUN = 1_000_000
"""Items per run: a run's manifest is in the driver's memory. Containers count as one, and are all in the first run."""

_AGAIN = "again"
"""Column of items that are planned again because they had an error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunPlan:
    """What there is to do: first finish the `unfinished` runs, then do the `new` items as run number `next_number`,
    then those that are left `later`, in runs of their own."""

    output: str
    table: str
    config_hash: str
    unfinished: list[KnownRun]
    new: pa.Table
    """Rows with the columns of `manifest.INPUTS` and any further columns of the items."""
    later: Later | None
    retried: int
    """How many of `new` and `later` had an error before."""
    next_number: int
    already_done: int
    """Items that finished runs contain, not counting those of `new` and `later`."""
    last_run: str | None
    """Id of the newest run so far; None if there is none."""
    last_options: Mapping[str, object]
    """The options in that run's manifest."""

    @property
    def items_left(self) -> int:
        """Number of items in the unfinished runs, including those that are done already."""
        return sum(run.manifest.items.num_rows for run in self.unfinished)

    @property
    def items_new(self) -> int:
        """Number of items in `new` and `later`."""
        return self.new.num_rows + (self.later.num_rows if self.later else 0)

    def following(self, begun: KnownRun) -> RunPlan:
        """The plan after the run `begun`, which was made of `new`."""
        number = (run_number(begun.layout.manifest) or 0) + 1
        new, later = self.later.divided() if self.later else (self.new.slice(0, 0), None)
        return replace(self, unfinished=[], new=new, later=later, next_number=number)


@dataclass(frozen=True, kw_only=True, slots=True)
class Later:
    """The rows of `items` from `start` up to `stop` (exclusive): items for later runs, in a temporary file."""

    items: Spool
    start: int
    stop: int

    @property
    def num_rows(self) -> int:
        return self.stop - self.start

    def batches(self) -> Iterator[pa.RecordBatch]:
        return self.items.slices(self.start, self.stop)

    def first(self, number: int) -> Later | None:
        """The first of these items; None for none."""
        return replace(self, stop=min(self.stop, self.start + number)) if number > 0 else None

    def divided(self) -> tuple[pa.Table, Later | None]:
        """The items of the next run, and those of the runs after it."""
        middle = min(self.stop, self.start + MOST_IN_RUN)
        rest = replace(self, start=middle) if middle < self.stop else None
        return self.items.read(self.start, middle).drop_columns(_AGAIN), rest


def plan_run(
    items: pa.Table | Spool,
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
    item whose latest row is of a later run stays done. `limit` is the maximum number of items in the new runs. Raises
    DamagedFileError for a file that cannot be read, and ValueError for an output whose compaction is incomplete.

    Memory: 28 bytes for each input that runs of this configuration contain, and the items of one run.
    """
    refuse_unfinished(output)
    without_forgotten = forgotten_filter(output)
    number = next_number(output, config_hash, tables)
    runs = find_runs(output, tables[0], config_hash)
    unfinished, finished = [run for run in runs if not run.finished], [run for run in runs if run.finished]
    sieve = _Sieve(
        waiting=Known(unfinished),
        done=Known(finished),
        failed=_ids(current_errors(output, tables[0], config_hash) if retry_errors else ()),
        judged=_judged(redo or {}, output, tables[0], config_hash),
    )
    if isinstance(items, pa.Table):
        items = Spool.of(items.to_batches(max_chunksize=BATCH_ROWS), items.schema)
    left, already_done = sieve.left_of(items, without_forgotten)
    new, later, retried = _divided(left, limit)
    return RunPlan(
        output=output,
        table=tables[0],
        config_hash=config_hash,
        unfinished=unfinished,
        new=new,
        later=later,
        retried=retried,
        next_number=number,
        already_done=already_done,
        last_run=runs[-1].layout.run_id if runs else None,
        last_options=runs[-1].info.config if runs else {},
    )


def freeze_new(todo: RunPlan, config: Mapping[str, object], *, shard_size: int, chunk_size: int) -> KnownRun | None:
    """Makes a run of the new items and writes its manifest, with the options `config` in it.

    Leaves out what was forgotten since `todo` was made. Returns None if that is everything, or if another driver has
    planned the same configuration since then: plan again.
    """
    new = forgotten_filter(todo.output)(todo.new)
    if not new.num_rows:
        return None
    items = plan(new, shard_size, chunk_size)
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


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sieve:
    """Keeps the items that are still to do."""

    waiting: Known
    done: Known
    failed: pa.Array[Any]
    """The `image_id`s of items to do again because of an error."""
    judged: pa.Array[Any]
    """The `image_id`s of items to do again because a person asked for that."""

    def left_of(self, items: Spool, prepared: Callable[[pa.Table], pa.Table]) -> tuple[Spool, int]:
        """The items that are left, with the column _AGAIN, and how many are done. `prepared` is called first, for each
        batch."""
        schema = items.schema.append(pa.field(_AGAIN, pa.bool_()))
        read, counts, asked = KeySet([]), Counter[str](), bytearray()
        left = items.mapped(lambda rows: self._kept(prepared(rows), read, counts, asked), schema)
        if asked:  # whether these are done is known only from the published rows
            read = self.done.read_versions(asked)
            left = left.mapped(lambda rows: self._kept(rows.drop_columns(_AGAIN), read, counts, bytearray()), schema)
        return left, counts["done"]

    def _kept(self, items: pa.Table, read: KeySet, counts: Counter[str], asked: bytearray) -> pa.Table:
        """The rows that are left. Counts those that are done; adds to `asked` the names of those for which
        published rows decide."""
        done, unsure = self.done.are_published(items, read)
        asked += unsure
        if INSIDE in items.column_names:
            inside = pc.is_valid(items[INSIDE]).to_numpy()
            of_container, unsure = self.done.are_published(container_rows(items), read)
            done[inside] |= of_container
            asked += unsure
        failed, judged = (pc.is_in(items["image_id"], value_set=ids).to_numpy() for ids in (self.failed, self.judged))
        # Rows of an unfinished run will replace those that are done, even if they are of another version.
        waiting, done = self.waiting.are_planned(items), done & ~self.waiting.have_names(items)
        again = done & failed & ~waiting
        left = ~waiting & (~done | failed | judged)
        counts["done"] += int((done & ~waiting & ~left).sum())
        return items.append_column(_AGAIN, pa.array(again)).filter(pa.array(left))


def _divided(left: Spool, limit: int | None) -> tuple[pa.Table, Later | None, int]:
    """The items of the next run, those of the runs after it, and how many of all these are done again."""
    number = left.num_rows if limit is None else min(limit, left.num_rows)
    everything = Later(items=left, start=0, stop=number)
    again = sum(pc.sum(batch[_AGAIN]).as_py() or 0 for batch in everything.batches())
    if UNIT not in left.schema.names:
        new, later = everything.divided()
        return new, later, again
    # Containers and the images in them must know of each other, so all of them are in one run, before other items.
    own = [name for name in left.schema.names if name not in (UNIT, INSIDE)]
    columns = pa.schema([left.schema.field(name) for name in own])
    if number < left.num_rows:
        left = Spool.of(everything.batches(), left.schema)
    together = left.mapped(lambda rows: rows.filter(_in_containers(rows)), left.schema)
    alone = left.mapped(lambda rows: rows.filter(pc.invert(_in_containers(rows))).select(own), columns)
    new, later = Later(items=alone, start=0, stop=alone.num_rows).divided()
    both = pa.concat_tables([together.table().drop_columns(_AGAIN), new], promote_options="default")
    return both.sort_by("uri"), later, again


def _in_containers(items: pa.Table) -> pa.ChunkedArray[Any]:
    """Which of the items are containers or in one."""
    return pc.or_(*(pc.is_valid(items[name]) for name in (UNIT, INSIDE)))


def _ids(names: Mapping[str, object] | Sequence[str]) -> pa.Array[Any]:
    return pa.array(list(names), pa.string())


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
