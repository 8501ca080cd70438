"""Planning over very many images: `PLANNED_IMAGES=1000000 pytest -m slow -s tests/pipeline/label/test_scale.py`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from ddpm_seg import storage
from ddpm_seg.data.schema import labels_schema
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.pipeline.label.plan import plan_label
from ddpm_seg.runs.parquet import encode
from ddpm_seg.runs.view import read_labels
from tests.measurements.storage_cost import frozen, prepared
from tests.tiny_bundle import TASK

IMAGES = int(os.environ.get("PLANNED_IMAGES", "100000"))

# What the job imported, its time, and its memory: after the imports, and at its peak.
JOB = """
import json, resource, sys, time
start = time.monotonic()
from jobs.label import main
from tests.memory import held_memory, peak_memory
imported = held_memory()
status = main(sys.argv[1:])
seconds, usage = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF)
used = {"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime}
memory = {"imported": imported, "peak": peak_memory()}
print(json.dumps({"status": status, "ray": "ray" in sys.modules, **used, **memory}))
"""


def finished_run(folder: Path) -> LabelConfig:
    """A run over `IMAGES` empty files that ended without an error, as its tables and manifest show it."""
    config = prepared(folder, IMAGES)
    run = frozen(plan_label(config))
    items = run.manifest.items
    shards = items["shard"].to_numpy()
    for shard in range(shards[-1] + 1):
        first, last = np.searchsorted(shards, [shard, shard + 1])
        storage.write_bytes(run.layout.shard(shard), encode(labelled(items.slice(first, last - first))))
    storage.write_bytes(run.layout.report, b"finished")
    return config


def labelled(items: pa.Table) -> pa.Table:
    known = {name: items[name] for name in ("image_id", "uri", "etag", "size_bytes")}
    known["status"] = pa.array(["ok"] * items.num_rows, pa.string())
    schema = labels_schema(TASK)
    return pa.table([known.get(field.name, pa.nulls(items.num_rows, field.type)) for field in schema], schema=schema)


@pytest.mark.slow  # minutes
@pytest.mark.timeout(3600)
def test_a_rerun_over_very_many_images_asks_nobody_and_stays_small(tmp_path: Path) -> None:
    config = finished_run(tmp_path)
    arguments = [f"--{name}={getattr(config, name)}" for name in ("input", "output", "model")]
    job = subprocess.run([sys.executable, "-c", JOB, *arguments], capture_output=True, text=True, timeout=1800)
    assert job.returncode == 0, job.stderr
    *shown, last = job.stdout.splitlines()
    assert shown[:2] == ["nothing new to label", f"{IMAGES} done before, 0 other files left out"]
    figures = json.loads(last)
    assert (figures["status"], figures["ray"]) == (0, False)
    an_image = (figures["peak"] - figures["imported"]) / IMAGES
    print(f"\n{IMAGES} images: {figures['seconds']:.1f} s ({figures['cpu_seconds']:.1f} s of CPU), at most", end=" ")
    print(f"{figures['peak'] / 2**20:.0f} MiB, {figures['imported'] / 2**20:.0f} MiB of it imports", end="; ")
    print(f"{an_image:.0f} bytes an image")
    if IMAGES <= 100_000:
        assert figures["peak"] < 2**30

    (tmp_path / "in" / "00000" / "photograph-000000000.png").write_text("changed")
    assert plan_label(config).run.new.num_rows == 1
    view = read_labels(config.output, columns=["uri", "status"])
    assert view.num_rows == IMAGES


@pytest.mark.slow  # a minute
@pytest.mark.timeout(1800)
def test_memory_for_planning_hardly_grows_with_the_objects_that_are_done(tmp_path: Path) -> None:
    peaks = {}
    for objects in (300_000, 600_000):
        folder = str(tmp_path / str(objects))
        main = [sys.executable, "-m", "tests.measurements.planned_objects", str(objects), folder]
        subprocess.run(main, check=True, timeout=900)
        steps = {step: json.loads(Path(folder, f"{step}.json").read_text()) for step in ("new", "nothing")}
        assert steps["new"]["peak"] < 700e6
        peaks[objects] = steps["nothing"]["peak"]
    an_object = (peaks[600_000] - peaks[300_000]) / 300_000
    print(f"\n{an_object:.0f} bytes per object that is done")
    assert an_object < 150  # in Arrow tables it was 457
