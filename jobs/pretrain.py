"""Trains a DDPM on unlabelled images: the network whose activations `jobs.train` then builds an ensemble on.

    python -m jobs.avatars --output avatars --splits unlabelled
    python -m jobs.pretrain --images avatars/unlabelled --output bundles/avatars-ddpm --iterations 4000 --batch-size 20

The learning rate stays until the last quarter of the iterations: until then, --iterations may be changed.

Run again after an interruption, it goes on where it stopped (the state is saved every three minutes). On a Ray cluster
with GPUs (`ray job submit`), one Ray Train worker a GPU. Exit status: 0 done, 2 wrong use, 4 interrupted.
"""

from __future__ import annotations

import logging
import sys

from ddpm_seg import storage
from ddpm_seg.training.pretrain import PretrainConfig, PretrainDDPMConfig, pretrain
from jobs.arguments import INTERRUPTED, parse, stop


def main(argv: list[str] | None = None) -> int:
    return run(parse(PretrainDDPMConfig, argv, description="Train a DDPM on unlabelled images."))


def run(config: PretrainConfig) -> int:
    """Trains, and says in the end what stands where."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        model_id = pretrain(config)
    except (ValueError, OSError) as error:
        stop(str(error))
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return INTERRUPTED
    print(f"bundle:   {storage.redact(config.output)}")
    print(f"model_id: {model_id}")
    print(f"next:     python -m jobs.train --model {config.output} --images ANNOTATED --task TASK --output URI")
    return 0


if __name__ == "__main__":
    sys.exit(main())
