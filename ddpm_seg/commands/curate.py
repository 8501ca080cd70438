"""Chooses which generated samples are good enough to train on, and stores that rule beside them.

    ddpm-seg curate --samples samples/  # drops the most uncertain tenth
    ddpm-seg curate --samples s3://bucket/synthetic --drop-uncertain 0.2 \\
        --ignore-above 0.5

Also drops samples whose mask has only one class. The samples themselves stay unchanged: the rule is curation.json,
which ddpm-seg distill and ddpm_seg.read_samples apply. Running the job again replaces the rule.
"""

from __future__ import annotations

import logging
import sys

from ddpm_seg import storage
from ddpm_seg.command_line.run import run
from ddpm_seg.evaluation.tables.curation_config import CurateConfig


def main(argv: list[str] | None = None) -> int:
    return run(CurateConfig, _curate, __doc__, argv, writes=("samples",), log_level=logging.WARNING)


def _curate(config: CurateConfig) -> str:
    from ddpm_seg.evaluation.tables.curation import FILE, TABLE, curate
    from ddpm_seg.runs.view import choose

    found = curate(config)
    configuration = choose(config.samples, TABLE, found.config_hash)
    lines = [f"{name.replace('_', ' '):<15} {number:>9,}" for name, number in found.counts.items()]
    lines.append(f"kept: uncertainty {found.least_uncertainty:.4g} to {found.most_uncertainty:.4g} nats")
    lines.append(f"samples of configuration {configuration}")
    return "\n".join([*lines, f"rule: {storage.join(config.samples, FILE)}"])


if __name__ == "__main__":
    sys.exit(main())
