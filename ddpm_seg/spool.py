"""Rows that may not fit into memory: kept in a temporary file, read batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from tempfile import TemporaryFile
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ddpm_seg.temporary_space import space_named

MERGED_ROWS = 8_192  # per batch of an unsorted spool, as sorting holds one batch of each stretch


class Spool:
    """Rows of one schema. Written once, then read any number of times; deleted with the object.

    The temporary file is in the folder that TMPDIR names, and has about 60 bytes per row of a manifest.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._lengths: list[int] = []  # rows of each batch
        self._file = TemporaryFile()  # noqa: SIM115
        self._writer: Any = pa.ipc.new_file(self._file, schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))
        self._reader: Any = None

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Spool:
        """A spool with all rows of these batches, in order."""
        spool = cls(schema)
        for batch in batches:
            spool.write(batch)
        return spool

    def mapped(self, function: Callable[[pa.Table], pa.Table], schema: pa.Schema) -> Spool:
        """A spool with the rows that `function` returns for each batch of this one; `schema` is theirs."""
        tables = (function(pa.table(batch)) for batch in self.batches())
        return Spool.of((batch for table in tables for batch in table.combine_chunks().to_batches()), schema)

    def write(self, batch: pa.RecordBatch) -> None:
        """Adds rows. Raises OSError if the disk is full, and names the folder."""
        with space_named("a list of images"):
            self._writer.write_batch(batch)
        self._lengths.append(batch.num_rows)

    @property
    def num_rows(self) -> int:
        return sum(self._lengths)

    def batch(self, number: int) -> pa.RecordBatch:
        return self._opened().get_batch(number)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All rows, one batch in memory at a time."""
        return self.slices()

    def read(self, start: int, stop: int) -> pa.Table:
        """The rows from `start` up to `stop` (exclusive), or up to the last."""
        return pa.Table.from_batches(list(self.slices(start, stop)), self.schema)

    def slices(self, start: int = 0, stop: int | None = None) -> Iterator[pa.RecordBatch]:
        """The rows from `start` up to `stop` (exclusive), batch by batch."""
        stop, first = self.num_rows if stop is None else stop, 0
        for number, length in enumerate(self._lengths):
            end = first + length
            if end > start and first < stop:
                yield self.batch(number).slice(max(0, start - first), min(stop, end) - max(start, first))
            first = end

    def table(self) -> pa.Table:
        """All rows, in memory."""
        return self.read(0, self.num_rows)

    def _opened(self) -> Any:
        if self._reader is None:
            with space_named("a list of images"):
                self._writer.close()
            self._reader = pa.ipc.open_file(self._file)
        return self._reader


def spool_sorted(tables: Iterable[pa.Table], schema: pa.Schema, column: str) -> Spool:
    """A spool with all rows of these tables, sorted by a column of strings, bytes or numbers.

    Only as much is in memory as one of the tables has, as long as each continues where the one before ended; else also
    `MERGED_ROWS` rows for each that does not.
    """
    spool, written, starts, last = Spool(schema), 0, [], None
    for table in tables:
        if not table.num_rows:
            continue
        if not _is_sorted(table[column]):
            table = table.sort_by(column)
        if last is None or table[column][0].as_py() < last:
            starts.append(written)
        last = table[column][-1].as_py()
        for batch in table.combine_chunks().to_batches(max_chunksize=MERGED_ROWS):
            spool.write(batch)
            written += 1
    if len(starts) < 2:
        return spool
    stretches = [range(*bounds) for bounds in pairwise([*starts, written])]
    return Spool.of(_merged(spool, stretches, column), schema)


def _merged(spool: Spool, stretches: Sequence[range], column: str) -> Iterator[pa.RecordBatch]:
    """The rows of the spool's sorted stretches (ranges of batches) in one order."""
    left = [map(spool.batch, stretch) for stretch in stretches]
    heads: list[pa.RecordBatch | None] = [next(batches, None) for batches in left]
    while some := [(place, head) for place, head in enumerate(heads) if head is not None]:
        # No stretch has more rows up to this one than those that are in memory.
        bound = min(head[column][-1].as_py() for _, head in some)
        ready = []
        for place, head in some:
            count = pc.sum(pc.less_equal(head[column], bound)).as_py()
            ready.append(head.slice(0, count))
            heads[place] = head.slice(count) if count < head.num_rows else next(left[place], None)
        yield from pa.Table.from_batches(ready).sort_by(column).combine_chunks().to_batches()


def _is_sorted(column: pa.ChunkedArray[Any]) -> bool:
    return bool(pc.all(pc.less_equal(column.slice(0, max(0, len(column) - 1)), column.slice(1))).as_py())
