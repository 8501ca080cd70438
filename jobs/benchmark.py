"""Measures a model on this machine: images an hour, where the time goes, and how far that is from the hardware's limit.

    python -m jobs.benchmark                                    # the model in the box
    python -m jobs.benchmark --model s3://models/ffhq --label 64 --output benchmark/
    python -m jobs.benchmark --published-size --reference       # beside the published algorithm, in turn

Exit status as of jobs.label.
"""

from __future__ import annotations

import sys

from ddpm_seg.benchmark.run import BenchmarkConfig, run_benchmark, table
from jobs.command import run


def main(argv: list[str] | None = None) -> int:
    return run(BenchmarkConfig, lambda config: table(run_benchmark(config)), __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
