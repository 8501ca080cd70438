"""Measures a model on this machine: images per hour, where the time goes, and how close it is to the hardware's limit.

    ddpm-seg benchmark  # the model that comes with the package
    ddpm-seg benchmark --model s3://models/ffhq --label 64 --output benchmark/
    # compared with the published algorithm
    ddpm-seg benchmark --published-size --reference

Exit status: see ddpm-seg label --help.
"""

from __future__ import annotations

import sys

from ddpm_seg.benchmark.config import BenchmarkConfig
from ddpm_seg.command_line.run import run


def main(argv: list[str] | None = None) -> int:
    return run(BenchmarkConfig, _benchmark, __doc__, argv)


def _benchmark(config: BenchmarkConfig) -> str:
    from ddpm_seg.benchmark.run import run_benchmark, table

    return table(run_benchmark(config))


if __name__ == "__main__":
    sys.exit(main())
