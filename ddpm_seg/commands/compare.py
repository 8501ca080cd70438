"""Compares an ensemble on diffusion features with simpler methods trained on the same few annotated images.

    ddpm-seg compare --model avatars-10 --task avatars_10 \\
        --train avatars/annotated-{1,2,3,4,5} --test avatars/test \\
        --plenty avatars/plenty --mirror --output comparison
    ddpm-seg compare --model s3://models/ffhq --task ffhq_34 \\
        --train s3://photos/annotated --splits 5 --shots 20 \\
        --methods diffusion --output s3://photos/comparison

Trains each method on each split and scores it on the test images. The methods: an ensemble on the bundle's features
(diffusion), on colours and coordinates (rgb), and on features of the untrained network (untrained); and a small U-Net
trained from scratch (supervised). --plenty adds that U-Net trained on many images, as an upper bound.

Writes comparison.md, a table of mean IoU and the IoU of each class, comparison.json with the same numbers, and the
result of each method on each split as METHOD-SPLIT.json.

After an interruption, the same command continues. You can run several --methods at the same time as separate commands
with the same --output; the command without --methods then makes one table of all results.
"""

from __future__ import annotations

import sys

from ddpm_seg import storage
from ddpm_seg.command_line.run import run
from ddpm_seg.errors import work_began
from ddpm_seg.json_text import json_file
from ddpm_seg.studies.compare_config import CompareConfig


def main(argv: list[str] | None = None) -> int:
    return run(CompareConfig, _compare, __doc__, argv)


def _compare(config: CompareConfig) -> str:
    from ddpm_seg.studies.compare import compare
    from ddpm_seg.studies.results import as_markdown, summarise

    results = compare(config)
    with work_began():
        rows = summarise(results)
        table = as_markdown(rows)
        storage.write_bytes(storage.join(config.output, "comparison.json"), json_file(rows))
        storage.write_bytes(storage.join(config.output, "comparison.md"), table.encode())
    return table.removesuffix("\n")


if __name__ == "__main__":
    sys.exit(main())
