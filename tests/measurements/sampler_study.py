"""Measures samplers: their cost, their samples' distance from real images, and the mIoU of students trained on them.

    python -m tests.measurements.sampler_study FOLDER --model avatars-10 --validation avatars/validation \\
        --test avatars/test --cells ddpm-250 ddpm-20 ddim-20 dpm-solver++-20 --seeds 0 1 2

For every cell (sampler and UNet evaluations a sample) and seed: jobs.generate, jobs.curate, jobs.distill and
jobs.evaluate, as a user would run them. Begun again in the same folder it goes on; results stand in results.jsonl, and
the table of all of them is printed in the end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from jobs import curate, distill, evaluate, generate

STUDENT = ["--backbone", "mobilenet_v3_large", "--resolution", "128", "--precision", "bfloat16", "--batch-size", "8"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--validation", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--cells", nargs="+", required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--num-samples", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--without-student", action="store_true", help="distances alone")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for seed in options.seeds:
        for cell in options.cells:
            if (cell, seed) not in {(row["cell"], row["seed"]) for row in results(options.folder)}:
                row = {"cell": cell, "seed": seed, **measured(options, cell, seed)}
                with (options.folder / "results.jsonl").open("a") as file:
                    file.write(json.dumps(row) + "\n")
    print(table(results(options.folder)))


def measured(options: argparse.Namespace, cell: str, seed: int) -> dict[str, Any]:
    """One cell's distances, and the test mIoU of its student."""
    sampler, _, steps = cell.rpartition("-")
    folder = options.folder / f"{cell}-{seed}"
    samples, student, scores = (str(folder / name) for name in ("samples", "student", "scores"))
    started = time.monotonic()
    drawn = [
        "--num-samples",
        str(options.num_samples),
        "--seed",
        str(seed),
        "--sampler",
        sampler,
        "--steps",
        steps,
        "--dtype",
        "bfloat16",
    ]
    run(generate.main, ["--model", options.model, "--output", samples, "--real", options.test, *drawn])
    quality = json.loads((folder / "samples" / "quality.json").read_text())
    found = {
        "samples": options.num_samples,
        "seconds": time.monotonic() - started,
        "kernel_distance": quality["kernel_distance"],
        "kernel_distance_deviation": quality["kernel_distance_deviation"],
        "frechet_distance": quality["frechet_distance"],
    }
    if options.without_student:
        return found
    run(curate.main, ["--samples", samples])
    if not Path(student, "bundle.json").exists():
        how = ["--validation", options.validation, "--epochs", str(options.epochs), "--seed", str(seed), *STUDENT]
        run(distill.main, ["--samples", samples, "--output", student, *how])
    run(evaluate.main, ["--model", student, "--images", options.test, "--output", scores])
    miou = json.loads(Path(scores, "metrics.json").read_text())["miou"]
    shutil.rmtree(scores)
    return {**found, "miou": miou}


def run(job: Callable[[list[str]], int], argv: list[str]) -> None:
    """A job, which must end well."""
    if status := job(argv):
        raise SystemExit(status)


def results(folder: Path) -> list[dict[str, Any]]:
    """What was measured so far."""
    path = folder / "results.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: one row a cell, means and deviations over its seeds."""
    lines = [
        "| sampler | evaluations | samples, seeds | kernel distance × 1000 | student's mIoU |",
        "|---|---|---|---|---|",
    ]
    for cell in dict.fromkeys(row["cell"] for row in rows):
        own = [row for row in rows if row["cell"] == cell]
        sampler, _, steps = cell.rpartition("-")
        distance = show([1000 * row["kernel_distance"] for row in own], 2)
        miou = show([row["miou"] for row in own if "miou" in row], 3)
        lines.append(f"| {sampler} | {steps} | {own[0]['samples']}, {len(own)} | {distance} | {miou} |")
    return "\n".join(lines)


def show(values: Sequence[float], digits: int) -> str:
    """Mean, and the deviation where there are several."""
    if not values:
        return "–"
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{fmean(values):.{digits}f}{deviation}"


if __name__ == "__main__":
    main()
