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

| id | class |
|---|---|
{classes}
"""


def write_huggingface(pictures: Iterable[Picture], task: Task, output: str) -> None:
    """Writes `data/train-00000.parquet`, … and `README.md`; `datasets.load_dataset(output)` decodes images and
    masks."""
    for number, rows in enumerate(_batches(pictures)):
        sink = pa.BufferOutputStream()
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        pq.write_table(table, sink, row_group_size=100, write_page_checksum=True)
        storage.write_bytes(storage.join(output, "data", f"train-{number:05d}.parquet"), sink.getvalue().to_pybytes())
    classes = "\n".join(f"| {class_id} | {name} |" for class_id, name in enumerate(task.class_names))
    card = _CARD.format(name=task.name, classes=classes)
    storage.write_bytes(storage.join(output, "README.md"), card.encode())


def _batches(pictures: Iterable[Picture]) -> Iterator[list[dict[str, Any]]]:
    rows = map(_row, pictures)
    while batch := list(islice(rows, ROWS)):
        yield batch


def _row(picture: Picture) -> dict[str, Any]:
    return {
        "image": {"bytes": picture.image, "path": picture.file_name},
        "mask": picture_cell(picture.mask, f"{picture.name}.png"),
        "uri": picture.uri,
        "uncertainty": picture.uncertainty,
        "mean_confidence": picture.mean_confidence,
        "model_id": picture.model_id,
    }
