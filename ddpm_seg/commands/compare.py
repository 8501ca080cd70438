"""Compares diffusion features with what they have to beat, trained on the same few annotated images.

    python -m jobs.compare --model avatars-10 --task avatars_10 --train avatars/annotated-{1,2,3,4,5} \\
        --test avatars/test --plenty avatars/plenty --mirror --output comparison
    python -m jobs.compare --model s3://models/ffhq --task ffhq_34 --train s3://photos/annotated \\
        --splits 5 --shots 20 --methods diffusion --output s3://photos/comparison

Trains on each split and scores on the test images (with --splits: on those that the split left): the ensemble on the
bundle's features, on colours and coordinates, and on the features of an untrained UNet; a small U-Net trained from
scratch; and, as the ceiling, the same U-Net on --plenty. An interrupted comparison goes on where it was, and parts of
it (--methods) may run beside each other; the whole command then makes the table of them.
"""

from __future__ import annotations

import sys

from ddpm_seg import storage
from ddpm_seg.command_line.run import run
from ddpm_seg.errors import work_began
from ddpm_seg.studies.compare_config import CompareConfig


def main(argv: list[str] | None = None) -> int:
    return run(CompareConfig, _compare, __doc__, argv)


def _compare(config: CompareConfig) -> str:
    from ddpm_seg.studies.compare import compare
    from ddpm_seg.studies.results import markdown_table, summarise

    results = compare(config)
    with work_began():
        rows = summarise(results)
        table = markdown_table(rows)
        storage.write_json(storage.join(config.output, "comparison.json"), rows)
        storage.write_bytes(storage.join(config.output, "comparison.md"), table.encode())
    return table.removesuffix("\n")


if __name__ == "__main__":
    sys.exit(main())
