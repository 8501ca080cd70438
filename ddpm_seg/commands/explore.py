"""Shows what a network knows before anybody annotates: clusters of its activations, as masks to begin with.

    ddpm-seg explore --model bundles/horses --images photos/ --output explored
    ddpm-seg explore --model avatars-10 --images s3://photos/all \\
        --clusters 20 --steps 50 --blocks 3 4 5 --output s3://photos/explored

Writes explore.html, which shows every cluster and says how to go on: images/ and masks/ have the images and their
clusters, for ddpm-seg train to take once you have said in a task file which cluster is which class, and have
corrected some masks in an image editor. clusters.csv has each image's share of every cluster.

After an interruption, the same command continues.
"""

from __future__ import annotations

import sys

from ddpm_seg import storage
from ddpm_seg.command_line.run import run
from ddpm_seg.studies.explore.config import PAGE, TABLE, ExploreConfig


def main(argv: list[str] | None = None) -> int:
    return run(ExploreConfig, _explore, __doc__, argv)


def _explore(config: ExploreConfig) -> str:
    from ddpm_seg.studies.explore.explore import run_explore

    found = run_explore(config)
    output = storage.redact(config.output)
    steps = f"steps {' '.join(map(str, found.features.steps))}, " if found.features.steps else ""
    lines = [f"{'cluster':<12}{'pixels':>8}{'images':>8}"]
    for name, shares_N in zip(found.task.class_names, found.shares.T, strict=True):
        lines.append(f"{name:<12}{shares_N.mean():>8.1%}{int((shares_N > 0).sum()):>8}")
    lines += [
        "",
        f"images  {len(found.shares)}, {steps}blocks {' '.join(map(str, found.features.blocks))}",
        f"page    {storage.join(output, PAGE)}",
        f"masks   {storage.join(output, 'masks')}, names in {storage.join(output, 'task.json')}",
        f"table   {storage.join(output, TABLE)}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
