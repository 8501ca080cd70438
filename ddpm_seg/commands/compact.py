"""Writes a year of small nightly shards as a few large files, to a new prefix: each image once, its latest row.

    python -m jobs.compact --labels s3://bucket/labels --output s3://bucket/labels-2026

What stands under --labels stays as it is. The nightly job may go on in the new prefix: it knows what is done.
"""

from __future__ import annotations

import logging
import sys

from ddpm_seg.command_line.run import run
from ddpm_seg.runs.compact_config import CompactConfig


def main(argv: list[str] | None = None) -> int:
    return run(CompactConfig, _compact, __doc__, argv, log_level=logging.WARNING)


def _compact(config: CompactConfig) -> str:
    from ddpm_seg.data.schema import class_stats_table
    from ddpm_seg.evaluation.pages.report import write_report
    from ddpm_seg.runs.compact import compact

    done = compact(
        config, {"class_stats": class_stats_table}, lambda layout: write_report(layout.output, layout.run_id)
    )
    lines = [f"{done.files_before:,} files, {done.rows_before:,} rows -> {done.files:,} files, {done.rows:,} rows"]
    for layout in done.layouts:
        lines += [
            f"configuration {layout.config_hash}",
            f"labels       {layout.configuration()}",
            f"class stats  {layout.configuration('class_stats')}",
            f"report       {layout.report}",
        ]
    if done.left_out:
        lines.append(f"left out     the configurations {', '.join(done.left_out)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
