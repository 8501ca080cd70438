"""Trains a diffusion network (DDPM) on unlabelled images; ddpm-seg train then trains an ensemble on its activations.

    ddpm-seg avatars --output avatars --splits unlabelled
    ddpm-seg pretrain --images avatars/unlabelled \\
        --output bundles/avatars-ddpm --iterations 4000 --batch-size 20

After an interruption, the same command continues where it stopped: the state is saved every three minutes and when the
job is stopped. On a Ray cluster with GPUs (`ray job submit`), it runs one Ray Train worker per GPU. Exit status: see
ddpm-seg label --help.
"""

from __future__ import annotations

import sys

from ddpm_seg.command_line.run import run
from ddpm_seg.training.network.pretrain_config import PretrainConfig, PretrainDDPMConfig


def main(argv: list[str] | None = None) -> int:
    return run(PretrainDDPMConfig, train, __doc__, argv)


def train(config: PretrainConfig) -> str:
    """Trains the network that `config` describes and returns the report to print."""
    from ddpm_seg.training.network.pretrain import pretrain

    model_id = pretrain(config)
    return "\n".join(
        [
            f"bundle:   {config.output}",
            f"model_id: {model_id}",
            f"next:     ddpm-seg train --model {config.output} --images ANNOTATED --task TASK --output URI",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
