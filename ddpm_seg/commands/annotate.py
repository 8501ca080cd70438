"""Annotates generated images with a network trained on many annotated real images, in place of a person.

    ddpm-seg generate --model bundles/avatars-ddpm --num-samples 20 \\
        --output drawn
    ddpm-seg annotate --samples drawn --plenty avatars/plenty \\
        --task avatars_10 --output annotated.parquet
    ddpm-seg train --model bundles/avatars-ddpm --images annotated.parquet \\
        --task avatars_10 --output bundles/own

Meant for repeatable measurements; for a dataset of your own, annotate by hand. Exit status: see ddpm-seg label --help.
"""

from __future__ import annotations

import sys

from ddpm_seg.command_line.run import run
from ddpm_seg.studies.annotate_config import AnnotateConfig


def main(argv: list[str] | None = None) -> int:
    return run(AnnotateConfig, _annotate, __doc__, argv)


def _annotate(config: AnnotateConfig) -> str:
    from ddpm_seg.studies.stand_in_annotator import annotate

    return f"{annotate(config)} samples annotated: {config.output}"


if __name__ == "__main__":
    sys.exit(main())
