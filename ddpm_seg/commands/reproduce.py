"""Runs the published benchmarks: a cell of DDPM-Seg's table, or the whole row.

    python -m jobs.reproduce --task ffhq_34 --datasets datasets --checkpoints checkpoints/ddpm --output reproduction
    python -m jobs.reproduce --all --datasets s3://seg/datasets --checkpoints s3://seg/ddpm --output s3://seg/out

Converts the checkpoint, trains ten members on the first training images by the published recipe, labels the first test
images on the cluster and scores them. Run again after an interruption, it goes on with the next model. Exit status as
of jobs.label.
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
    """A Markdown table, in per cent as published."""
    lines = ["| benchmark | images | mean IoU | published |", "|---|---|---|---|"]
    for row in rows:
        published = f"{100 * row['published_miou']:.1f} ± {100 * row['published_deviation']:.1f}"
        lines.append(f"| {row['task']} | {row['images']} | {100 * row['miou']:.1f} | {published} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
