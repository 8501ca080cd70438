"""Draws the README's pictures of a model: labelled images, generated samples, and their nearest training images.

    ddpm-seg showcase --model avatars-10 --images avatars/test \\
        --training-images avatars/unlabelled --output show

Writes labels.png, samples.png (5 x 5 samples, each drawn in 20 steps), neighbours.png and distances.json.
"""

from __future__ import annotations

import sys

from ddpm_seg.command_line.run import run
from ddpm_seg.studies.showcase_config import ShowcaseConfig


def main(argv: list[str] | None = None) -> int:
    return run(ShowcaseConfig, _showcase, __doc__, argv)


def _showcase(config: ShowcaseConfig) -> str:
    from ddpm_seg.studies.showcase import showcase

    return showcase(config)


if __name__ == "__main__":
    sys.exit(main())
