"""Takes images out of an output: their rows, statistics and pictures in reports. Later runs leave them out.

    ddpm-seg forget --labels s3://bucket/labels --uris gone.txt

For a person who asks for it, or a licence that ends. The images' own files are not touched, nor are exports. What is
kept is a record of hashes of the URIs, under forgotten/. Run it while no job works on the output; after a failure run
the same command again.
"""

from __future__ import annotations

import logging
import sys

from ddpm_seg import storage
from ddpm_seg.command_line.run import run
from ddpm_seg.runs.upkeep.forget_config import ForgetConfig


def main(argv: list[str] | None = None) -> int:
    return run(ForgetConfig, _forget, __doc__, argv, writes=("labels",), log_level=logging.WARNING)


def _forget(config: ForgetConfig) -> str:
    from ddpm_seg.data.inputs.verdicts import read_chosen
    from ddpm_seg.evaluation.pages.report import write_report
    from ddpm_seg.runs.upkeep.forget import forget

    names = read_chosen(config.uris, "reject").names
    lines = []
    calibration = storage.join(config.labels, "calibration")
    for output in (config.labels, *([calibration] if storage.exists(storage.join(calibration, "runs")) else [])):
        done = forget(output, names, lambda layout: write_report(layout.output, layout.run_id))
        rows = ", ".join(f"{number} rows of {table}" for table, number in sorted(done.rows.items()))
        lines += [
            f"{len(done.images)} images forgotten under {output}: {rows or 'they had no rows'}",
            *([f"reports made again: {', '.join(sorted(done.runs))}"] if done.runs else []),
            f"record       {done.record}",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
