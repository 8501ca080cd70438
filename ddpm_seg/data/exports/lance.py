"""Exports to a Lance table of images and masks."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.data.exports.huggingface import tables
from ddpm_seg.data.exports.picture import Picture
from ddpm_seg.data.inputs.lance_container import store_options
from ddpm_seg.tasks import Task

TABLE = "labels.lance"


def write_lance(pictures: Iterable[Picture], task: Task, output: str) -> None:
    """Writes the columns of `write_huggingface` to the table `TABLE`, piece by piece."""
    import lance

    left = tables(pictures)
    first = next(left, None)
    if first is None:
        return
    batches = (batch for table in chain([first], left) for batch in table.to_batches())
    reader = pa.RecordBatchReader.from_batches(first.schema, batches)
    lance.write_dataset(reader, storage.join(output, TABLE), storage_options=store_options())
