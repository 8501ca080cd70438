"""Writes generated samples as jobs.generate does, of pictures whose classes any network can distinguish."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.data.schema import samples_schema, uncertainty_map
from ddpm_seg.data.table_pictures import encode_png
from ddpm_seg.runs.layout import RunLayout
from ddpm_seg.runs.parquet import encode
from ddpm_seg.tasks import TASKS

SIZE = 16


def publish_boxes(
    output: Path,
    count: int,
    *,
    first: int = 0,
    shard: int = 0,
    row_group_size: int = 8,
    labelled: bool = True,
    config_hash: str = "c",
    run: int = 1,
) -> None:
    """Samples `first` and on, one shard of them: a bright box (class 1) on a dark ground (class 0) somewhere.

    Sample i has uncertainty i / 1000; all of it lies in the picture's first row.
    """
    task = TASKS["avatars_10"] if labelled else None
    rows = [{**_row(number), "config_hash": config_hash} for number in range(first, first + count)]
    layout = RunLayout(output=str(output), table="samples", config_hash=config_hash, run_id=f"run-{run:06d}")
    table = pa.Table.from_pylist(rows, schema=samples_schema(task))
    storage.write_bytes(layout.shard(shard), encode(table, row_group_size=row_group_size))


def _row(number: int) -> dict[str, Any]:
    rng = np.random.default_rng(number)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    top, left = rng.integers(1, 7, 2)
    mask[top : top + 8, left : left + 8] = 1
    image = np.where(mask[:, :, None] == 1, 220, 30) + rng.integers(-20, 20, (SIZE, SIZE, 3))
    image[0, 0] = number, number // 256, 0  # tells the samples apart
    doubt = np.zeros((SIZE, SIZE))
    doubt[0] = 1
    return {
        "image_id": f"id {number}",
        "uri": f"sample:0/{number:09d}",
        "seed": 0,
        "number": number,
        "status": "ok",
        "config_hash": "c",
        "model_id": "0" * 16,
        "width": SIZE,
        "height": SIZE,
        "uncertainty": number / 1000,
        "classes": [{"class_id": class_id} for class_id in range(2)],
        "image": _picture(image.astype(np.uint8)),
        "mask": _picture(mask),
        "uncertainty_map": _picture(uncertainty_map(doubt, TASKS["avatars_10"].num_classes)),
    }


def _picture(pixels: np.ndarray) -> dict[str, Any]:
    return {"bytes": encode_png(pixels), "path": None}
