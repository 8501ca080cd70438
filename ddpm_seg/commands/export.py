"""Exports labels to the formats of annotation, training and viewing tools (Label Studio, CVAT, COCO, FiftyOne, …).

    ddpm-seg export --labels out --to label-studio --most-uncertain 200 \\
        --output review
    ddpm-seg export --labels s3://bucket/labels --to coco \\
        --max-uncertainty 0.2 --output s3://bucket/coco
    ddpm-seg export --labels out --to png --classes hair "facial hair" \\
        --output hair

Masks that you correct there can be trained on: ddpm-seg train --images reads Label Studio's and COCO's JSON, CVAT's
XML, and the folders that --to png writes.
"""

from __future__ import annotations

import logging
import sys

from ddpm_seg.command_line.run import run
from ddpm_seg.evaluation.tables.export_config import ExportConfig


def main(argv: list[str] | None = None) -> int:
    return run(ExportConfig, _export, __doc__, argv, log_level=logging.WARNING)


def _export(config: ExportConfig) -> str:
    from ddpm_seg.evaluation.tables.export import export

    done = export(config)
    outside = done.selection.outside
    left = {
        "filtered out": done.selection.others - outside,
        "unlike the training images": outside,
        "without a mask": done.selection.errors,
        **done.gone,
    }
    reasons = ", ".join(f"{number} {reason}" for reason, number in left.items() if number)
    said = f"{done.images} images to {config.output}" + (f"; left out: {reasons}" if reasons else "")
    model = ", ".join(sorted(done.model_ids)) or "none"
    return f"{said}\nmodel {model}\nconfiguration {done.selection.configuration}"


if __name__ == "__main__":
    sys.exit(main())
