"""Measures the driver's own work as inputs grow: listing, planning, freezing, committing, planning again.

    python -m tests.measurements.storage_cost 1000 10000 100000 1000000

On local disk, without Ray: empty files in folders of a thousand, and shards of tiny masks whose chunks workers have
written. Every step is of the job's own functions, over all images.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.data.inputs.listing import list_images
from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.plan import TABLE, LabelPlan, plan_label
from ddpm_seg.runs.commit import ShardPlan, settle_shard, write_chunk
from ddpm_seg.runs.ledger import KnownRun, freeze_run
from ddpm_seg.runs.manifest import Manifest, RunInfo, inputs_table, plan
from tests.pipeline.stand_in import MODEL_ID, stamped, table
from tests.tiny_bundle import tiny_bundle

SHARD, CHUNK, FOLDER = 1000, 256, 1000
MASK = bytes(256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("counts", nargs="+", type=int)
    for count in parser.parse_args().counts:
        with tempfile.TemporaryDirectory() as folder:
            seconds = costs(Path(folder), count)
        steps = ", ".join(f"{step} {spent:.2f} s" for step, spent in seconds.items())
        whole = sum(seconds.values())
        print(f"{count} images: {steps}; {whole:.1f} s in all, {1000 * whole / count:.3f} ms an image", flush=True)


def costs(folder: Path, count: int) -> dict[str, float]:
    """Seconds of each step."""
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(step: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[step] = time.perf_counter() - started

    config = prepared(folder, count)
    with timed("listing"):
        listed = inputs_table(list_images(str(config.input)).files)
    with timed("planning (it lists too)"):
        job = plan_label(config)
    assert listed.num_rows == job.run.new.num_rows == count
    with timed("freezing"):
        run = frozen(job)
    planned = run.planned(model_id=MODEL_ID)
    for shard, chunk, items in run.manifest.chunks():
        rows = stamped(table([uri.removeprefix("/") for uri in items["uri"].to_pylist()]), run.info)
        write_chunk(planned, shard, chunk, rows.append_column("mask", pa.array([MASK] * len(rows), pa.binary())))
    with timed("committing"):
        for shard, rows in run.manifest.shard_rows().items():
            settle_shard(ShardPlan.of(planned, run.manifest, shard, rows), {"names": lambda all: all.select(["name"])})
    storage.write_bytes(run.layout.report, b"finished")
    with timed("planning again, with nothing new"):
        assert plan_label(config).run.new.num_rows == 0
    return seconds


def prepared(folder: Path, count: int) -> LabelConfig:
    for first in range(0, count, FOLDER):
        inside = folder / "in" / f"{first // FOLDER:05}"
        inside.mkdir(parents=True)
        for index in range(first, min(first + FOLDER, count)):
            (inside / f"photograph-{index:09}.png").touch()
    save_bundle(tiny_bundle(), str(folder / "model"))
    return LabelConfig(input=str(folder / "in"), output=str(folder / "out"), model=str(folder / "model"))


def frozen(job: LabelPlan) -> KnownRun:
    info = RunInfo(run_id="", config_hash=job.run.config_hash, created_at=datetime.now(timezone.utc), config={})
    run = freeze_run(
        job.run.output, TABLE, Manifest(info=info, items=plan(job.run.new, SHARD, CHUNK)), job.run.next_number
    )
    assert run is not None
    return run


if __name__ == "__main__":
    main()
