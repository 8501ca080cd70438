"""Labels a million real files through Ray with a tiny stand-in network, and draws what each process holds meanwhile.

    python -m tests.measurements.million_files 1000000 FOLDER

FOLDER gets the files, the model, the output, `memory.csv` and `memory.png`. Run it again after an interruption: it
continues.
Private memory is counted (proportional set size), so that what processes share is not counted twice.
"""

from __future__ import annotations

import argparse
import csv
import io
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from ddpm_seg.model.bundle.ensemble_bundle import save_bundle
from ddpm_seg.runs.view import shards_read
from ddpm_seg.studies.figures import saved
from tests.tiny_bundle import tiny_bundle

SIDE, IN_A_FOLDER, EVERY_S = 8, 1000, 10.0
WHO = {
    "driver": r"-m jobs\.label",
    "actor": r"ray::MapWorker",
    "tasks": r"ray::",
    "raylet": r"raylet/raylet",
    "gcs": r"gcs_server",
    "decoding": r"decoding\.child",
}
"""What the processes of each kind are called."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    folder = options.folder.resolve()
    write_files(folder / "in", options.count)
    if not (folder / "model").exists():
        save_bundle(tiny_bundle(size=SIDE), str(folder / "model"))
    began = time.perf_counter()
    status = run_watched(folder)
    hours = (time.perf_counter() - began) / 3600
    found = Counter[str]()
    for _, rows in shards_read(str(folder / "out"), "labels", ["uri", "status"]):
        found.update(map(str, rows["status"].to_pylist()))
    print(f"exit status {status} after {hours:.2f} h; rows: {dict(found)}")
    draw(folder)


def write_files(folder: Path, count: int) -> None:
    """PNGs of SIDE x SIDE, each with other pixels."""
    for first in range(0, count, IN_A_FOLDER):
        there = folder / f"{first // IN_A_FOLDER:05}"
        numbers = range(first, min(count, first + IN_A_FOLDER))
        if there.exists() and len(list(there.iterdir())) == len(numbers):
            continue
        there.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(first).integers(0, 256, (len(numbers), SIDE, SIDE, 3), np.uint8)
        for number, image in zip(numbers, pixels, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "PNG", compress_level=1)
            (there / f"{number:07}.png").write_bytes(buffer.getvalue())


def run_watched(folder: Path) -> int:
    """Runs jobs.label to its end, and adds to `memory.csv` every few seconds; returns its exit status."""
    arguments = ["--input", folder / "in", "--model", folder / "model", "--output", folder / "out", "--num-actors", "1"]
    command = [
        sys.executable,
        "-m",
        "jobs.label",
        *map(str, arguments),
        "--chunk-size",
        "1024",
        "--shard-size",
        "16384",
    ]
    job, began = subprocess.Popen(command), time.perf_counter()
    with (folder / "memory.csv").open("a", newline="") as file:
        rows = csv.writer(file)
        while job.poll() is None:
            held = held_by_kind()
            rows.writerow([f"{time.perf_counter() - began:.0f}", *(held.get(kind, 0) for kind in WHO)])
            file.flush()
            time.sleep(EVERY_S)
    return job.returncode


def held_by_kind() -> dict[str, int]:
    """Bytes that this machine's processes of each kind hold."""
    held = dict[str, int]()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            kind = next((kind for kind, pattern in WHO.items() if re.search(pattern, command)), None)
            if kind is not None:
                text = (process / "smaps_rollup").read_text()
                held[kind] = held.get(kind, 0) + 1024 * int(text.partition("\nPss:")[2].split()[0])
        except (OSError, IndexError):  # it has ended
            continue
    return held


def draw(folder: Path) -> None:
    import matplotlib.pyplot as plt

    table = np.loadtxt(folder / "memory.csv", delimiter=",", ndmin=2)
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for column, (kind, style) in enumerate(zip(WHO, ("-", "--", "-.", ":", (0, (1, 3)), (0, (5, 1))), strict=True), 1):
        axes.plot(table[:, 0] / 60, table[:, column] / 1e6, linestyle=style, label=kind)
    axes.set(xlabel="minutes", ylabel="MB", ylim=0, title="Memory through a run")
    figure.legend(loc="outside right upper")
    (folder / "memory.png").write_bytes(saved(figure)["png"])
    for kind, column in zip(WHO, table.T[1:], strict=True):
        tenth = max(1, len(column) // 10)
        print(f"{kind}: {np.median(column[tenth : 2 * tenth]) / 1e6:.0f} MB early, "
              f"{np.median(column[-2 * tenth : -tenth]) / 1e6:.0f} late, {column.max() / 1e6:.0f} at most")  # fmt: skip


if __name__ == "__main__":
    main()
