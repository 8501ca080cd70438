"""Adds masks to the rows of the Lance table that was labelled, as columns."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.data.exports.picture import Picture
from ddpm_seg.data.inputs import sources
from ddpm_seg.data.inputs.image_column import ADDED
from ddpm_seg.data.inputs.lakehouse import files_of_table, is_lance_table
from ddpm_seg.data.inputs.lance_container import store_options
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.spool import Spool, spool_sorted
from ddpm_seg.tasks import Task

logger = logging.getLogger(__name__)

ROWS = 500  # in memory at a time, with their masks
_EMPTY_ROWS = 65_536
_TYPES: dict[str, pa.DataType] = {
    "row": pa.int64(),
    f"{ADDED}mask": pa.binary(),
    f"{ADDED}uncertainty": pa.float32(),
    f"{ADDED}mean_confidence": pa.float32(),
    f"{ADDED}model_id": pa.string(),
}
_SPOOLED = pa.schema(_TYPES)


def merge_into_lance(pictures: Iterable[Picture], task: Task, table_uri: str) -> None:
    """Adds the columns `ddpm_seg_mask` (a PNG of class ids; its metadata has the `class_names`), `…_uncertainty`,
    `…_mean_confidence` and `…_model_id` to a Lance table, as a new version of it. Rows without a label have nulls.
    Columns that an earlier call added are replaced, and stay if this call is interrupted.

    Masks wait in a temporary file, so memory does not grow with the table. Raises ValueError if this is no Lance table,
    rows of it are marked as deleted, or none of the pictures lies in it.
    """
    import lance

    name = storage.redact(table_uri)
    if not is_lance_table(table_uri):
        raise ValueError(f"{name} is not a Lance table, as --merge-into needs")
    files_of_table(table_uri)  # refuses deleted rows
    table = lance.dataset(table_uri, storage_options=store_options())
    rows = _Rows.of(table, table_uri)
    labelled = spool_sorted(rows.tables(pictures), _SPOOLED, "row")
    if not labelled.num_rows:
        raise ValueError(f"none of the labelled images lies in a file that {name} consists of now: label it again")
    if rows.outside:
        logger.warning("%d labelled images do not lie in a file that %s consists of now", rows.outside, name)
    schema = _schema(task)
    with _earlier_columns_replaced(table, table_uri):
        table.add_columns(pa.RecordBatchReader.from_batches(schema, _filled(labelled, rows.count, schema)))


@contextmanager
def _earlier_columns_replaced(table: Any, table_uri: str) -> Iterator[None]:
    """Drops the columns that an earlier call added. They come back if what follows fails or is interrupted, unless
    somebody else has written to the table meanwhile."""
    import lance

    old = [column for column in table.schema.names if column in _TYPES]
    if not old:
        yield
        return
    before = table.version
    table.drop_columns(old)
    dropped = table.version
    try:
        yield
    except BaseException:
        options = store_options()
        if lance.dataset(table_uri, storage_options=options).version == dropped:
            lance.dataset(table_uri, version=before, storage_options=options).restore()
        raise


def _schema(task: Task) -> pa.Schema:
    about: dict[bytes | str, bytes | str] = {"class_names": json.dumps(list(task.class_names))}
    fields: list[pa.Field[Any]] = [pa.field(name, kind) for name, kind in _TYPES.items() if name != "row"]
    return pa.schema([fields[0].with_metadata(about), *fields[1:]])


@dataclass(kw_only=True, slots=True)
class _Rows:
    """Finds the row of the table that a picture belongs to."""

    first: dict[str, int]
    count: int
    outside: int = 0
    """Pictures that are in none of the files, so far."""

    @classmethod
    def of(cls, table: Any, uri: str) -> _Rows:
        first, count = dict[str, int](), 0
        for fragment in table.get_fragments():
            for file in fragment.data_files():
                first[storage.normalize(storage.join(uri, "data", file.path))] = count
            count += fragment.physical_rows
        return cls(first=first, count=count)

    def tables(self, pictures: Iterable[Picture]) -> Iterator[pa.Table]:
        """The rows of the pictures, some at a time."""
        found = self._found(pictures)
        while some := list(islice(found, ROWS)):
            yield pa.Table.from_pylist(some, schema=_SPOOLED)

    def _found(self, pictures: Iterable[Picture]) -> Iterator[dict[str, Any]]:
        for picture in pictures:
            file, member = sources.split(picture.uri)
            first = self.first.get(file)
            if first is None or not member:
                self.outside += 1
                continue
            values = encode_png(picture.mask), picture.uncertainty, picture.mean_confidence, picture.model_id
            row = first + int(member.lstrip("#").rpartition("/")[2])
            yield dict(zip(_TYPES, (row, *values), strict=True))


def _filled(labelled: Spool, count: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """A row for each of the table's, in order, with nulls where there is no label."""
    done = 0
    for batch in labelled.batches():
        rows = batch["row"].to_numpy()
        stop = int(rows[-1]) + 1
        place = np.full(stop - done, -1)
        new = rows >= done
        place[rows[new] - done] = np.flatnonzero(new)
        yield batch.select(schema.names).take(pa.array(place, mask=place < 0)).cast(schema)
        done = stop
    while done < count:
        size = min(_EMPTY_ROWS, count - done)
        yield pa.record_batch([pa.nulls(size, field.type) for field in schema], schema=schema)
        done += size
