"""Rewrites many small label files as a few large ones under a new prefix, keeping only each image's latest row.

    ddpm-seg compact --labels s3://bucket/labels \\
        --output s3://bucket/labels-2026

Files under --labels stay unchanged. ddpm-seg label can continue with the new prefix as its --output: it finds there
which images are done.

    # lists what can go, then deletes it
    ddpm-seg compact --labels s3://bucket/labels --prune
    ddpm-seg compact --labels s3://bucket/labels --prune --delete
"""

from __future__ import annotations

import logging
import sys

from ddpm_seg.command_line.run import run
from ddpm_seg.runs.upkeep.compact_config import CompactConfig


def main(argv: list[str] | None = None) -> int:
    return run(CompactConfig, _work, __doc__, argv, writes=("output", "labels"), log_level=logging.WARNING)


def _work(config: CompactConfig) -> str:
    return _prune(config) if config.prune else _compact(config)


def _prune(config: CompactConfig) -> str:
    from ddpm_seg.runs.upkeep.prune import find_removable, remove

    found = find_removable(config.labels, config.config_hash)
    lines = [f"kept      configuration {found.kept}"]
    lines += [f"kept      configuration {name}: a run of it is not finished" for name in found.unfinished]
    verb = "deleted" if config.delete else "can go"
    for one in found.removable:
        lines.append(f"{verb:<9} {one.title}: {one.files:,} files, {one.size_bytes / 1e6:,.1f} MB")
    if config.delete:
        remove(found)
    elif found.removable:
        lines.append("nothing was deleted: add --delete to delete what can go")
    else:
        lines.append("nothing else is there")
    return "\n".join(lines)


def _compact(config: CompactConfig) -> str:
    from ddpm_seg.data.schema import class_stats_table
    from ddpm_seg.evaluation.pages.report import write_report
    from ddpm_seg.runs.upkeep.compact import compact

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
