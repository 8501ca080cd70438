"""Writes a labelled output like that of many nights, with manifests and tables, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.data.schema import class_stats_table, labels_schema
from ddpm_seg.runs.ledger import KnownRun, freeze_run
from ddpm_seg.runs.manifest import Manifest, RunInfo, inputs_table, plan
from ddpm_seg.runs.parquet import encode
from ddpm_seg.runs.summary import write_run_json
from ddpm_seg.tasks import Task
from tests.tiny_bundle import TASK

NOWHERE = "s3://b"
FIRST_NIGHT = datetime(2026, 1, 1, 1, tzinfo=timezone.utc)


def night(
    output: Path | str,
    number: int,
    images: Mapping[str, Mapping[str, Any]],
    *,
    shard_size: int = 3,
    task: Task = TASK,
    prefix: str = NOWHERE,
    config_hash: str = "c",
    model_id: str = "m",
) -> KnownRun:
    """Run `number`, finished: `images` by name, with what is to stand in their rows; {"error_type": …} for errors."""
    begun = FIRST_NIGHT + timedelta(days=number)
    files = [
        storage.FileInfo(uri=f"{prefix}/{name}", size_bytes=number, etag=f"{name} {number}", modified=begun)
        for name in images
    ]
    info = RunInfo(run_id="", config_hash=config_hash, created_at=begun, config={"model": "m"})
    items = plan(inputs_table(files), shard_size=shard_size, chunk_size=2)
    run = freeze_run(str(output), "labels", Manifest(info=info, items=items), number)
    assert run is not None
    write_run_json(run.layout, run.info, {"model_id": model_id})
    for shard in run.manifest.shard_sizes():
        mine = [row for row in items.to_pylist() if row["shard"] == shard]
        rows = [_row(run, item, images[item["uri"].removeprefix(f"{prefix}/")], begun, model_id) for item in mine]
        has = {name for row in rows for name in row}
        table = pa.Table.from_pylist(
            rows, schema=labels_schema(task, maps="confidence_map" in rows[0], domain="domain_distance" in has)
        )
        storage.write_bytes(run.layout.shard(shard), encode(table))
        storage.write_bytes(run.layout.shard(shard, "class_stats"), encode(class_stats_table(table)))
    storage.write_bytes(run.layout.report, b"report")
    return run


def labelled(number: int, uncertainty: float = 0.1, task: Task = TASK, **fractions: float) -> dict[str, Any]:
    """A row of an image of 10 x 10 pixels with these classes of `task`; `number` tells masks apart."""
    names = task.class_names
    classes = [
        {
            "class_id": names.index(name),
            "class_name": name,
            "pixels": round(100 * fraction),
            "fraction": fraction,
            "mean_confidence": 0.9,
            "mean_uncertainty": uncertainty,
            "components": 1,
            "bbox": [0.0, 0.0, 10.0, 10.0],
        }
        for name, fraction in fractions.items()
    ]
    return {
        "width": 10,
        "height": 10,
        "mask": {"bytes": b"png %d" % number, "path": None},
        "uncertainty": uncertainty,
        "mean_confidence": 0.9,
        "classes": classes,
    }


def _row(
    run: KnownRun, item: dict[str, Any], what: Mapping[str, Any], begun: datetime, model_id: str
) -> dict[str, Any]:
    # A test that has written the images at a place of its own says their versions, or none.
    versions = ("etag", "size_bytes") if item["uri"].startswith(f"{NOWHERE}/") else ()
    own = {name: item[name] for name in ("image_id", "uri", *versions)}
    ids = {
        "model_id": model_id,
        "config_hash": run.layout.config_hash,
        "code_version": "1",
        "run_id": run.layout.run_id,
        "created_at": begun,
    }
    return {**own, **ids, "status": "error" if "error_type" in what else "ok", **what}
