"""Trains a masked autoencoder on unlabelled images: features to hold a DDPM's against, on the same images.

    python -m jobs.avatars --output avatars --splits unlabelled
    python -m jobs.pretrain_mae --images avatars/unlabelled --output bundles/avatars-mae --iterations 5100 \\
        --batch-size 128 --learning-rate 1e-3 --compile

He et al. (2022): three quarters of an image's patches are hidden and filled in from the others. Saving, going on,
workers and exit status are as of `jobs.pretrain`.
"""

from __future__ import annotations

import sys

from ddpm_seg.command_line.run import run
from ddpm_seg.commands.pretrain import train
from ddpm_seg.training.network.pretrain_config import PretrainMAEConfig


def main(argv: list[str] | None = None) -> int:
    return run(PretrainMAEConfig, train, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
