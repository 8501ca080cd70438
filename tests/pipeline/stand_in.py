"""A stand-in for the model: a run over names instead of images, where each name says what happens to it."""

from __future__ import annotations

import os
import pickle
import re
import signal
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.cluster.nodes import Allocation
from ddpm_seg.pipeline.execute import Outcome, execute
from ddpm_seg.pipeline.stream import Stages, as_stage
from ddpm_seg.runs.contents import Contents
from ddpm_seg.runs.ledger import KnownRun, freeze_run
from ddpm_seg.runs.manifest import Manifest, RunInfo, image_id, inputs_table, plan

Row = dict[str, Any]

ONE_ACTOR = Allocation(actors=1, actor_cpus=1, actor_gpus=0, threads=1, task_cpus=0.5)


MODEL_ID = "m"


def frozen_run(output: Path, names: list[str], *, shard_size: int, chunk_size: int) -> KnownRun:
    files = [storage.FileInfo(uri=f"/{name}", size_bytes=1, etag=None, modified=None) for name in names]
    info = RunInfo(run_id="", config_hash="c", created_at=datetime.now(timezone.utc), config={})
    manifest = Manifest(info=info, items=plan(inputs_table(files), shard_size, chunk_size))
    run = freeze_run(str(output), "labels", manifest, 1)
    assert run is not None
    return run


def carry_out(
    run: KnownRun,
    notes: Path,
    *,
    allocation: Allocation = ONE_ACTOR,
    max_errors: int | None = None,
    seconds: float = 0,
    model_id: str = MODEL_ID,
) -> Outcome:
    """`notes` is where workers leave word of what happened to them."""
    notes.mkdir(exist_ok=True)
    stages = Stages(
        before=as_stage(before),
        actor=Model,
        actor_arguments={"notes": notes, "seconds": seconds},
        after=as_stage(after, notes, run.info),
        killed=as_stage(killed, run.info),
    )
    return execute(
        run,
        Contents(run.manifest, run.planned()),
        to_row=to_row,
        stages=stages,
        allocation=allocation,
        derived={"names": lambda table: table.select(["name"])},
        max_errors=max_errors,
        model_id=model_id,
    )


def table(names: list[str], *, batch: int = 1, error: str | None = None) -> pa.Table:
    """Rows of `names`; the value of each is known, `batch` is how many were done at a time."""
    errors = [error or (name.rpartition(".")[2] if ".error_" in name else None) for name in names]
    return pa.table(
        {
            "name": pa.array(names, pa.string()),
            "value": pa.array([name[::-1] for name in names], pa.string()),
            "batch": pa.array([batch] * len(names), pa.int64()),
            "status": pa.array(["error" if kind else "ok" for kind in errors], pa.string()),
            "error_type": pa.array(errors, pa.string()),
            "uncertainty": pa.array([None if kind else 0.5 for kind in errors], pa.float32()),
        }
    )


def stamped(rows: pa.Table, info: RunInfo) -> pa.Table:
    """`rows` with the columns that say whose they are."""
    count = rows.num_rows
    return (
        rows.append_column("image_id", pa.array([image_id(f"/{name}") for name in rows["name"].to_pylist()]))
        .append_column("run_id", pa.array([info.run_id] * count))
        .append_column("config_hash", pa.array([info.config_hash] * count))
        .append_column("model_id", pa.array([MODEL_ID] * count))
        .append_column("created_at", pa.array([info.created_at] * count, pa.timestamp("us", tz="UTC")))
    )


def to_row(shard: int, chunk: int, items: pa.Table) -> Row:
    names = [uri.removeprefix("/") for uri in items["uri"].to_pylist()]
    return {"shard": shard, "chunk": chunk, "payload": pickle.dumps(names)}


def before(row: Row) -> Row:
    _meet_fate(row, "before")
    return {**row, "read_seconds": 1.0}


class Model:
    def __init__(self, notes: Path, seconds: float) -> None:
        (notes / f"loaded-{os.getpid()}").touch()
        if (notes / "no model").exists():
            raise ValueError("no model here")
        if (notes / "die loading").exists():
            os.kill(os.getpid(), signal.SIGSEGV)
        self.notes, self.seconds = notes, seconds

    def __call__(self, row: Row) -> Row:
        time.sleep(self.seconds)
        _meet_fate(row, "actor")
        _die_at_first(self.notes, row)
        (self.notes / f"segmented-{row['shard']}-{row['chunk']}").touch()
        return {**row, "segment_seconds": 1.0}


def after(row: Row, notes: Path, info: RunInfo) -> pa.Table:
    _meet_fate(row, "after")
    if (notes / "full").exists():
        raise OSError(28, "No space left on device")
    while (notes / "no writing").exists():
        time.sleep(0.1)
    names = pickle.loads(row["payload"])
    return stamped(table(names, batch=len(names)), info)


def killed(row: Row, info: RunInfo) -> pa.Table:
    return stamped(table(pickle.loads(row["payload"]), error="killed_worker"), info)


def _meet_fate(row: Row, stage: str) -> None:
    if any(name.endswith(f"kills_{stage}") for name in pickle.loads(row["payload"])):
        os.kill(os.getpid(), signal.SIGSEGV)


def _die_at_first(notes: Path, row: Row) -> None:
    """Each death leaves a file."""
    for name in pickle.loads(row["payload"]):
        times = re.search(r"dies_(\d+)_times$", name)
        deaths = len(list(notes.glob(f"{name}-*")))
        if times and deaths < int(times[1]):
            (notes / f"{name}-{deaths}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
