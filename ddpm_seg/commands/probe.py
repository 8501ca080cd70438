"""Shows what a network's blocks know at each timestep: trains small classifiers on each block and step alone.

    ddpm-seg probe --model avatars-10 --task avatars_10 \\
        --train avatars/annotated-{1,2,3,4,5} --test avatars/test --output probe
    ddpm-seg probe --model s3://models/ffhq --task ffhq_34 \\
        --train s3://photos/annotated --splits 5 --shots 20 \\
        --steps 50 150 250 --output s3://photos/probe

Writes the grid of mean IoUs as probe.csv and probe.md, and as heat maps probe.png and probe.svg (extra plots), also
for small and large classes alone. ddpm-seg train --steps … --blocks … takes what looks good; its --tune --probe OUTPUT
tries the best ones together.

After an interruption, the same command continues.
"""

from __future__ import annotations

import sys

from ddpm_seg import storage
from ddpm_seg.command_line.run import run
from ddpm_seg.errors import work_began
from ddpm_seg.studies.probe.config import ProbeConfig


def main(argv: list[str] | None = None) -> int:
    return run(ProbeConfig, _probe, __doc__, argv)


def _probe(config: ProbeConfig) -> str:
    from ddpm_seg.studies.figures import drawn
    from ddpm_seg.studies.probe.figure import heat_maps
    from ddpm_seg.studies.probe.probe import run_probe
    from ddpm_seg.studies.probe.table import as_csv, as_markdown, best, rows_of

    probe = run_probe(config)
    rows = rows_of(probe)
    with work_began():
        files = {"csv": as_csv(rows).encode(), "md": as_markdown(rows).encode()}
        files |= drawn(lambda: heat_maps(rows, f"{storage.redact(config.model)}: {probe.task.name}"))
        for suffix, content in files.items():
            storage.write_bytes(storage.join(config.output, f"probe.{suffix}"), content)
    found = best(rows)
    step = "" if found.step is None else f" --steps {found.step}"
    lines = [
        as_markdown(rows),
        f"small classes: {', '.join(probe.small) or 'none'}",
        f"best alone:{step} --blocks {found.block}, mean IoU {found.miou:.3f}",
        f"files:       {', '.join(storage.redact(storage.join(config.output, f'probe.{suffix}')) for suffix in files)}",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
