"""Measures what Ray adds to a run, with stand-ins for the model.

    python -m tests.measurements.ray_cost images 1000 10000 100000  # time per image beyond a bare loop
    python -m tests.measurements.ray_cost actors 8 64  # share of the time that they are busy

The work of `images` is real in kind: arrays of tiny images go to the actor, masks to the table. `actors` have a GPU
each that Ray only counts, wait for as long as a GPU would take for a chunk, and carry nothing.
"""

from __future__ import annotations

import argparse
import os
import pickle
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from ddpm_seg.cluster.nodes import Allocation
from ddpm_seg.pipeline.execute import execute
from ddpm_seg.pipeline.generate.stages import nothing_to_read
from ddpm_seg.pipeline.stream import Stages, as_stage
from ddpm_seg.runs.commit import ShardPlan, settle_shard, write_chunk
from ddpm_seg.runs.contents import Contents
from ddpm_seg.runs.manifest import RunInfo
from tests.pipeline.stand_in import MODEL_ID, ONE_ACTOR, frozen_run, killed, stamped, table, to_row

Row = dict[str, Any]

SIDE, SHARD, CHUNK = 16, 1000, 256
CHUNKS_EACH = 12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["images", "actors"])
    parser.add_argument("counts", nargs="+", type=int)
    parser.add_argument("--chunk-seconds", type=float, default=10.0, help="that an actor waits for each chunk")
    options = parser.parse_args()
    gpus = max(options.counts) if options.what == "actors" else 0
    ray.init(num_cpus=2, num_gpus=gpus, include_dashboard=False, log_to_driver=False)
    if options.what == "images":
        cost_of_images(options.counts)
    for count in options.counts if options.what == "actors" else []:
        with tempfile.TemporaryDirectory() as folder:
            busy, window = busy_share(Path(folder), count, options.chunk_seconds)
        print(f"{count} actors: busy {busy:.1%} of {window:.0f} s", flush=True)


def cost_of_images(counts: list[int]) -> None:
    """Prints seconds through Ray and in a bare loop, and the line through their differences."""
    with tempfile.TemporaryDirectory() as folder:
        through_ray(Path(folder), CHUNK)  # the workers' processes start, and import
    beyond = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            ours, bare = through_ray(Path(folder, "ray"), count), in_a_loop(Path(folder, "loop"), count)
        beyond.append(ours - bare)
        print(f"{count} images: {ours:.2f} s through Ray, {bare:.2f} s in a loop", flush=True)
    if len(counts) > 1:
        slope, fixed = np.polyfit(counts, beyond, 1)
        print(f"beyond the loop: {1000 * slope:.3f} ms an image and {fixed:.1f} s")


def through_ray(output: Path, count: int) -> float:
    """Seconds of a run of so many images, from frozen to published."""
    run = frozen_run(output, names(count), shard_size=SHARD, chunk_size=CHUNK)
    stages = Stages(
        before=read,
        actor=Threshold,
        actor_arguments={},
        after=as_stage(tabulate, run.info),
        killed=as_stage(killed, run.info),
    )
    started = time.perf_counter()
    outcome = execute(
        run,
        Contents(run.manifest, run.planned()),
        to_row=to_row,
        stages=stages,
        allocation=ONE_ACTOR,
        derived={},
        max_errors=None,
        model_id=MODEL_ID,
    )
    assert outcome.counts == {"ok": count}
    return time.perf_counter() - started


def in_a_loop(output: Path, count: int) -> float:
    """Seconds of the same in this process."""
    run, model = frozen_run(output, names(count), shard_size=SHARD, chunk_size=CHUNK), Threshold()
    planned, started = run.planned(model_id=MODEL_ID), time.perf_counter()
    for shard, chunk, items in run.manifest.chunks():
        write_chunk(planned, shard, chunk, tabulate(model(read(to_row(shard, chunk, items))), run.info))
    for shard, rows in run.manifest.shard_rows().items():
        settle_shard(ShardPlan.of(planned, run.manifest, shard, rows), {})
    return time.perf_counter() - started


def busy_share(folder: Path, actors: int, seconds: float) -> tuple[float, float]:
    """Share of the time in which actors wait for their "GPU", from when all are loaded until the first has no more to
    do; and that time in seconds."""
    run = frozen_run(folder / "out", names(actors * CHUNKS_EACH), shard_size=SHARD, chunk_size=1)
    notes = folder / "notes"
    notes.mkdir()
    allocation = Allocation(actors=actors, actor_cpus=0, actor_gpus=1, threads=1, task_cpus=0.5)
    stages = Stages(
        before=nothing_to_read, actor=Waiting, actor_arguments={"notes": notes, "seconds": seconds},
        after=as_stage(nothing_found, run.info), killed=as_stage(killed, run.info),
    )  # fmt: skip
    contents = Contents(run.manifest, run.planned())
    execute(
        run, contents, to_row=to_row, stages=stages, allocation=allocation, derived={}, max_errors=None,
        model_id=MODEL_ID,
    )  # fmt: skip
    loaded = [float(path.read_text()) for path in notes.glob("loaded-*")]
    calls = [np.loadtxt(path, ndmin=2) for path in notes.glob("calls-*")]
    assert len(loaded) == len(calls) == actors, f"{len(calls)} of {actors} actors had anything to do"
    begin, end = max(loaded), min(own[-1, 1] for own in calls)
    busy = sum((np.minimum(own[:, 1], end) - np.maximum(own[:, 0], begin)).clip(0).sum() for own in calls)
    return busy / (actors * (end - begin)), end - begin


def names(count: int) -> list[str]:
    return [f"{index:07}" for index in range(count)]


def read(row: Row) -> Row:
    """Tiny images of the row's names."""
    own = pickle.loads(row["payload"])
    images = np.random.default_rng(0).integers(0, 256, (len(own), SIDE, SIDE, 3), dtype=np.uint8)
    return {**row, "payload": pickle.dumps((own, images), protocol=5)}


class Threshold:
    """A model that costs nothing."""

    def __call__(self, row: Row) -> Row:
        own, images = pickle.loads(row["payload"])
        return {**row, "payload": pickle.dumps((own, images[..., 0] > 127), protocol=5)}


def tabulate(row: Row, info: RunInfo) -> pa.Table:
    own, masks = pickle.loads(row["payload"])
    return stamped(table(own), info).append_column("mask", pa.array([mask.tobytes() for mask in masks], pa.binary()))


class Waiting:
    """A model on a GPU, as far as the rest of the machine can tell."""

    def __init__(self, notes: Path, seconds: float) -> None:
        self.calls, self.seconds = notes / f"calls-{os.getpid()}", seconds
        (notes / f"loaded-{os.getpid()}").write_text(str(time.time()))

    def __call__(self, row: Row) -> Row:
        begun = time.time()
        time.sleep(self.seconds)
        with self.calls.open("a") as file:
            file.write(f"{begun} {time.time()}\n")
        return row


def nothing_found(row: Row, info: RunInfo) -> pa.Table:
    return stamped(table(pickle.loads(row["payload"])), info)


if __name__ == "__main__":
    main()
