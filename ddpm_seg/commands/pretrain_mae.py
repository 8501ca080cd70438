"""Trains a masked autoencoder (MAE) on unlabelled images, so that its features can be compared with a DDPM's.

    ddpm-seg avatars --output avatars --splits unlabelled
    ddpm-seg pretrain-mae --images avatars/unlabelled \\
        --output bundles/avatars-mae --iterations 5100 --batch-size 128 \\
        --learning-rate 1e-3 --compile

The network learns to fill in three quarters of each image's patches from the rest (He et al., 2022). Saving and
continuing, workers and exit status are the same as for ddpm-seg pretrain.
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
