"""Trains a DDPM on unlabelled images: the network whose activations `jobs.train` then builds an ensemble on.

    python -m jobs.avatars --output avatars --splits unlabelled
    python -m jobs.pretrain --images avatars/unlabelled --output bundles/avatars-ddpm --iterations 4000 --batch-size 20

The learning rate stays until the last quarter of the iterations: until then, --iterations may be changed.

Run again after an interruption, it goes on where it stopped (the state is saved every three minutes, and when it is
stopped). On a Ray cluster
with GPUs (`ray job submit`), one Ray Train worker a GPU. Exit status as for jobs.label.
"""

from __future__ import annotations

import sys

from ddpm_seg.command_line.run import run
from ddpm_seg.training.network.pretrain_config import PretrainConfig, PretrainDDPMConfig


def main(argv: list[str] | None = None) -> int:
    return run(PretrainDDPMConfig, train, __doc__, argv)


def train(config: PretrainConfig) -> str:
    """Trains, and says in the end what stands where."""
    from ddpm_seg.training.network.pretrain import pretrain

    model_id = pretrain(config)
    return "\n".join(
        [
            f"bundle:   {config.output}",
            f"model_id: {model_id}",
            f"next:     python -m jobs.train --model {config.output} --images ANNOTATED --task TASK --output URI",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
