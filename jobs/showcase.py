"""Draws what README shows of a model: labelled images, samples, and the samples' nearest training images.

    python -m jobs.showcase --model avatars-10 --images avatars/test --training-images avatars/unlabelled --output show

Writes labels.png, samples.png (5 x 5, 20 evaluations of the UNet each), neighbours.png and distances.json.
"""

from __future__ import annotations

import logging
import sys

from ddpm_seg.evaluation.showcase import ShowcaseConfig, showcase
from jobs.arguments import parse, stop


def main(argv: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    config = parse(ShowcaseConfig, argv, description="Draw what a model labels and samples.")
    try:
        print(showcase(config))
    except (ValueError, OSError) as error:
        stop(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
