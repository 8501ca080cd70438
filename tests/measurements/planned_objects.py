"""Measures planning over many listed objects, without a store: first everything is new, then nothing is.

    python -m tests.measurements.planned_objects 10000000 FOLDER

Each step runs in a process of its own, as a nightly job would; its peak memory is VmHWM, which counts from its own
start (ru_maxrss would begin with the parent's). FOLDER gets the output: manifests, and shards that have only names.
Steps whose result is there already are not repeated.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.runs.manifest import inputs_spool
from ddpm_seg.runs.parquet import encode
from ddpm_seg.runs.plan import RunPlan, freeze_new, plan_run
from tests.memory import peak_memory

SHARD, CHUNK = 4096, 256
TABLES = "labels", "class_stats"
NOW = datetime(2026, 1, 2, tzinfo=timezone.utc)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("objects", type=int)
    parser.add_argument("folder")
    parser.add_argument("--step", choices=["new", "nothing"], help="only this step, in this process")
    options = parser.parse_args()
    if options.step:
        print(json.dumps(planned(options.objects, options.folder, options.step)), flush=True)
        return
    for step in ("new", "nothing"):
        result = Path(options.folder, f"{step}.json")
        if not result.exists():
            arguments = [str(options.objects), options.folder, "--step", step]
            job = subprocess.run([sys.executable, "-m", __spec__.name, *arguments], stdout=subprocess.PIPE, check=True)
            result.parent.mkdir(parents=True, exist_ok=True)
            result.write_bytes(job.stdout)
        print(step, result.read_text().strip(), flush=True)


def planned(objects: int, folder: str, step: str) -> dict[str, float]:
    """Plans; with the step "new", then freezes all runs and marks them as finished. Returns seconds and bytes."""
    before, started, cpu = peak_memory(), time.perf_counter(), time.process_time()
    inputs = inputs_spool(listed(objects))
    seconds = {"listing": time.perf_counter() - started}
    todo = plan_run(inputs, folder, TABLES, "c" * 12)
    seconds["planning"] = time.perf_counter() - started - seconds["listing"]
    assert todo.items_new == (objects if step == "new" else 0)
    figures = {"cpu": time.process_time() - cpu, "imports": before, "planning_peak": peak_memory()}
    started = time.perf_counter()
    runs = finished_runs(todo)
    figures |= {"runs": runs, "peak": peak_memory(), "bytes_per_object": (peak_memory() - before) / objects}
    return {**seconds, "freezing": time.perf_counter() - started, **figures}


def listed(objects: int) -> Iterator[storage.FileInfo]:
    """What a listing of S3 yields, with keys and ETags of the usual length."""
    for number in range(objects):
        key = f"photographs/2026/camera-{number // 10_000:06}/image-{number:012}.jpg"
        yield storage.FileInfo(
            uri=f"s3://a-bucket/{key}", size_bytes=250_000 + number % 1000, etag=f"{number:032x}", modified=NOW
        )


def finished_runs(todo: RunPlan) -> int:
    """Freezes one run after another, as the job does, and gives each its shards (names only) and report."""
    empty, runs = encode(pa.table({"image_id": pa.array([], pa.string())})), 0
    while todo.new.num_rows:
        run = freeze_new(todo, {}, shard_size=SHARD, chunk_size=CHUNK)
        assert run is not None
        for shard in run.manifest.shard_sizes():  # the driver holds the manifest while it works
            storage.write_bytes(run.layout.shard(shard), empty)
        storage.write_bytes(run.layout.report, b"finished")
        todo, runs = todo.following(run), runs + 1
        del run  # as the job does
    return runs


if __name__ == "__main__":
    main()
