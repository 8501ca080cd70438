"""Exports to a dataset folder for Hugging Face `datasets`: Parquet files holding images and masks, and a card."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ddpm_seg import storage
from ddpm_seg.data.exports.picture import Picture
from ddpm_seg.data.schema import IMAGE, image_features
from ddpm_seg.data.table_pictures import picture_cell
from ddpm_seg.markdown_text import markdown_table
from ddpm_seg.tasks import Task

# Per file: a few hundred megabytes of photographs.
ROWS = 500

SCHEMA = pa.schema(
    [
        pa.field("image", IMAGE),
        pa.field("mask", IMAGE),
        pa.field("uri", pa.string()),
        pa.field("uncertainty", pa.float32()),
        pa.field("mean_confidence", pa.float32()),
        pa.field("model_id", pa.string()),
    ],
    metadata=image_features("image", "mask"),
)

_CARD = """---
configs:
- config_name: default
  data_files: data/*.parquet
---

# {name}

Images labelled by `ddpm_seg`. Pixels of `mask` are class ids; 255 is no class.

{classes}"""


def write_huggingface(pictures: Iterable[Picture], task: Task, output: str) -> None:
    """Writes `data/train-00000.parquet`, … and `README.md`; `datasets.load_dataset(output)` decodes images and
    masks."""
    for number, table in enumerate(tables(pictures)):
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, row_group_size=100, write_page_checksum=True)
        storage.write_bytes(storage.join(output, "data", f"train-{number:05d}.parquet"), sink.getvalue().to_pybytes())
    classes = markdown_table(["id", "class"], ([str(class_id), name] for class_id, name in enumerate(task.class_names)))
    card = _CARD.format(name=task.name, classes=classes)
    storage.write_bytes(storage.join(output, "README.md"), card.encode())


def tables(pictures: Iterable[Picture]) -> Iterator[pa.Table]:
    """The pictures as tables of `ROWS` rows at most: SCHEMA, and columns for what is kept."""
    kept: pa.Schema | None = None
    for batch in _batches(pictures):
        kept = kept or _schema_of_kept(batch)
        yield _with_kept(pa.Table.from_pylist(list(map(_row, batch)), schema=SCHEMA), batch, kept)


def _batches(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    left = iter(pictures)
    while batch := list(islice(left, ROWS)):
        yield batch


def _schema_of_kept(batch: list[Picture]) -> pa.Schema:
    """The types of the columns that are kept, by their values in the first batch; text where there is none."""
    fields = []
    for name in batch[0].kept:
        try:
            kind: pa.DataType = pa.array([one.kept[name] for one in batch]).type
        except pa.ArrowException as error:
            raise ValueError(f"--keep {name}: its values have different types: {error}") from error
        fields.append((name, pa.string() if pa.types.is_null(kind) else kind))
    return pa.schema(fields)


def _with_kept(table: pa.Table, batch: list[Picture], kept: pa.Schema) -> pa.Table:
    for field in kept:
        try:
            column = pa.array([one.kept[field.name] for one in batch], field.type)
        except pa.ArrowException as error:
            raise ValueError(f"--keep {field.name}: a value is not {field.type}, as others are: {error}") from error
        table = table.append_column(field, column)
    return table


def _row(picture: Picture) -> dict[str, Any]:
    return {
        "image": {"bytes": picture.image, "path": picture.file_name},
        "mask": picture_cell(picture.mask, f"{picture.name}.png"),
        "uri": picture.uri,
        "uncertainty": picture.uncertainty,
        "mean_confidence": picture.mean_confidence,
        "model_id": picture.model_id,
    }
