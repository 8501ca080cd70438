"""Measures the driver's memory through a long run: what each finished chunk leaves behind in it.

    python -m tests.measurements.driver_memory 25000 50000 100000

The driver's own bookkeeping, without Ray: a run of containers, as a billion images would be in, whose chunks of 256
come back one after another; each is counted, and a shard is published when its last one is back. Publishing is a
stand-in that answers as a worker would. Memory is the resident set at the start, and when all chunks are back.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ddpm_seg import storage
from ddpm_seg.pipeline.publish import Shards
from ddpm_seg.progress import Progress
from ddpm_seg.runs.commit import Settled
from ddpm_seg.runs.contents import INDEX, Contents, units_of, write_index
from ddpm_seg.runs.ledger import KnownRun, freeze_run
from ddpm_seg.runs.manifest import UNIT, Manifest, RunInfo, inputs_table, plan

CHUNK, SHARD, IMAGES = 256, 4096, 10_240
"""Images per chunk, shard and container."""


class PublishedAtOnce(Shards):
    def _publish(self, shard: int) -> None:
        rows = sum(self._sizes[shard])
        self._note(shard, Settled(outcomes={"ok": rows}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chunks", nargs="+", type=int)
    found = []
    for chunks in parser.parse_args().chunks:
        with tempfile.TemporaryDirectory() as folder:
            start, looked, end = memory(Path(folder), chunks)
        found.append((chunks, looked - start, end - start))
        print(f"{chunks} chunks: {start / 1e6:.0f}, {looked / 1e6:.0f}, {end / 1e6:.0f} MB")
    for name, column in (("before the first chunk", 1), ("at the end", 2)):
        slope = np.polyfit([row[0] for row in found], [row[column] for row in found], 1)[0] if len(found) > 1 else 0.0
        print(f"{name}: {slope:.0f} bytes per chunk, so {slope * 4e6 / 1e9:.2f} GB for 4 million")


def memory(folder: Path, chunks: int) -> tuple[int, int, int]:
    """Resident bytes: before, with the run's contents known, and when all chunks are back."""
    run = looked_into(folder, chunks)
    gc.collect()
    start = resident_bytes()
    contents = Contents(run.manifest, run.planned())
    shards = PublishedAtOnce(contents, run.planned(), {})
    looked, done, errors = resident_bytes(), 0, Counter[str]()
    with Progress(run.layout.run_id, total=contents.images, unit="images", done=0) as progress:
        for shard, sizes in contents.chunk_sizes().items():
            for chunk, images in enumerate(sizes):
                if shards.finished(shard, chunk):
                    errors["ok"] += images
                    done += images
                    progress.at(done, errors=0)
    assert not shards.are_left()
    assert shards.outcomes()["ok"] == contents.images
    gc.collect()
    return start, looked, resident_bytes()


def looked_into(folder: Path, chunks: int) -> KnownRun:
    """A run of containers with so many chunks in all, whose indexes are written."""
    units = -(-chunks * CHUNK // IMAGES)
    files = [storage.FileInfo(uri=f"s3://b/tars/{number:08}.tar", size_bytes=10**9) for number in range(units)]
    items = inputs_table(files).append_column(UNIT, pa.array(["tar"] * units))
    now = datetime(2026, 1, 2, tzinfo=timezone.utc)
    config: dict[str, Any] = {"chunk_size": CHUNK, "shard_size": SHARD, "shards": units}
    info = RunInfo(run_id="", config_hash="c", created_at=now, config=config)
    run = freeze_run(str(folder), "labels", Manifest(info=info, items=plan(items, SHARD, CHUNK)), 1)
    assert run is not None
    names = [f"{number:09}.jpg" for number in range(IMAGES)]
    rows = {"name": names, "start": range(IMAGES), "size_bytes": [9] * IMAGES, "fault": [None] * IMAGES}
    index = pa.table([pa.array(list(rows[field.name]), field.type) for field in INDEX], schema=INDEX)
    first, planned, units_found = None, run.planned(), units_of(run.manifest)
    for unit in units_found:
        if first is None:
            write_index(planned, unit, index, unit.version)
            first = Path(planned.index(unit.shard))
        else:
            os.link(first, planned.index(unit.shard))  # all have the same names
    return run


def resident_bytes() -> int:
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()
