"""Reproduces DDPM-Seg's published scores: for one benchmark, some, or all six, and for any rows of the paper's table.

    ddpm-seg reproduce --task ffhq_34 --datasets datasets \\
        --checkpoints checkpoints/ddpm --output reproduction
    ddpm-seg reproduce --all --datasets s3://seg/datasets \\
        --checkpoints s3://seg/ddpm --output s3://seg/out
    ddpm-seg reproduce --all --network ddpm mae swav swav-w2 alae dataset-gan \\
        --splits 5 --datasets datasets --checkpoints checkpoints \\
        --synthetic synthetic_datasets --output reproduction

For each network and benchmark: converts the published checkpoint, trains an ensemble on the first training images with
the published recipe, labels the first test images on Ray, and scores them. For dataset-ddpm and dataset-gan: trains a
student on the published samples. Writes benchmarks.json, prints a table beside the published scores, and keeps each
model with its labels and evaluation. After an interruption, the same command reuses the finished models and continues.
Exit status: see ddpm-seg label --help.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from ddpm_seg.command_line.run import run
from ddpm_seg.markdown_text import markdown_table
from ddpm_seg.studies.reproduce.config import ReproduceConfig


def main(argv: list[str] | None = None) -> int:
    return run(ReproduceConfig, _reproduce, __doc__, argv)


def _reproduce(config: ReproduceConfig) -> str:
    from ddpm_seg.studies.reproduce.reproduce import reproduce

    return describe(reproduce(config))


def describe(rows: Sequence[dict[str, Any]]) -> str:
    """The report to print: a Markdown table in per cent, as published."""
    lines = []
    for row in rows:
        found = _per_cent(row["miou"], row["deviation"]) if row["not_run"] is None else "not run"
        published = (
            "–" if row["published_miou"] is None else _per_cent(row["published_miou"], row["published_deviation"])
        )
        images = "–" if row["images"] is None else str(row["images"])
        lines.append([row["network"], row["task"], images, found, published])
    table = markdown_table(["network", "benchmark", "images", "mean IoU", "published"], lines)
    reasons = [f"{row['network']}, {row['task']}: {row['not_run']}" for row in rows if row["not_run"]]
    return "\n".join([table, "not run:", *reasons]) if reasons else table.removesuffix("\n")


def _per_cent(miou: float | None, deviation: float | None) -> str:
    if miou is None:
        return "–"
    return f"{100 * miou:.1f}" + (f" ± {100 * deviation:.1f}" if deviation is not None else "")


if __name__ == "__main__":
    sys.exit(main())
