"""Compares the masks that two models, or one model with two settings, gave the same images in one output.

    ddpm-seg changes --labels out  # the two newest configurations
    ddpm-seg changes --labels s3://bucket/labels --before 0fdcb35bf553 \\
        --after aa913136490c

Writes an HTML page: the most changed images with both masks, which classes became which, class areas and uncertainty.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from ddpm_seg import storage
from ddpm_seg.command_line.run import run
from ddpm_seg.evaluation.tables.changes_config import ChangesConfig

if TYPE_CHECKING:
    from ddpm_seg.evaluation.tables.changes import Changes


def main(argv: list[str] | None = None) -> int:
    return run(ChangesConfig, _changes, __doc__, argv, writes=("output", "labels"), log_level=logging.WARNING)


def _changes(config: ChangesConfig) -> str:
    from ddpm_seg.evaluation.pages.changes_page import write_changes_page
    from ddpm_seg.evaluation.tables.changes import find_changes

    if config.output:
        storage.check_writable(config.output.rpartition("/")[0])
    found = find_changes(config)
    uri = config.output or storage.join(config.labels, f"changes-{found.before}-{found.after}.html")
    write_changes_page(found, uri)
    return "\n".join(
        [
            f"before {found.before}, after {found.after}{_of_others(found)}: "
            f"{found.images} images compared, {found.unchanged} unchanged, "
            f"{found.share:.2%} of pixels of another class",
            f"page {uri}",
        ]
    )


def _of_others(found: Changes) -> str:
    """Names the configurations that were not compared."""
    return f" (not compared: {', '.join(found.others)}; choose with --before and --after)" if found.others else ""


if __name__ == "__main__":
    sys.exit(main())
