"""Reproduces DDPM-Seg's published benchmark scores: for one task, some, or all six.

    python -m jobs.reproduce --task ffhq_34 --datasets datasets --checkpoints checkpoints/ddpm --output reproduction
    python -m jobs.reproduce --all --datasets s3://seg/datasets --checkpoints s3://seg/ddpm --output s3://seg/out

For each task: converts the published checkpoint, trains an ensemble on the first training images with the published
recipe, labels the first test images on Ray, and scores them. After an interruption, the same command reuses the
finished models and continues. Exit status: see jobs.label --help.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from ddpm_seg.command_line.run import run
from ddpm_seg.studies.reproduce_config import ReproduceConfig


def main(argv: list[str] | None = None) -> int:
    return run(ReproduceConfig, _reproduce, __doc__, argv)


def _reproduce(config: ReproduceConfig) -> str:
    from ddpm_seg.studies.reproduce import reproduce

    return describe(reproduce(config))


def describe(rows: Sequence[dict[str, Any]]) -> str:
    """The report to print: a Markdown table in per cent, as published."""
    lines = ["| benchmark | images | mean IoU | published |", "|---|---|---|---|"]
    for row in rows:
        published = f"{100 * row['published_miou']:.1f} ± {100 * row['published_deviation']:.1f}"
        lines.append(f"| {row['task']} | {row['images']} | {100 * row['miou']:.1f} | {published} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
