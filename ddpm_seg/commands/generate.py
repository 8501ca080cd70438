"""Generates images with a diffusion model and labels them: a synthetic dataset as Parquet tables, made on Ray.

    ddpm-seg generate --model avatars-10 --num-samples 2000 --output samples/
    # only print the plan
    ddpm-seg generate --model avatars-10 --num-samples 2000 --output samples/ \\
        --dry-run
    ray job submit --working-dir . -- ddpm-seg generate \\
        --model s3://models/ffhq --num-samples 50000 \\
        --output s3://bucket/synthetic

Sample i of a seed is the same for any number of samples, actors and restarts. Running the same command again finishes
an interrupted run; a larger --num-samples draws only the additional samples. Exit status: see ddpm-seg label --help.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ddpm_seg.command_line.run import run
from ddpm_seg.pipeline.generate.config import GenerateConfig

if TYPE_CHECKING:
    from ddpm_seg.pipeline.generate.job import GenerateSummary


def main(argv: list[str] | None = None) -> int:
    return run(GenerateConfig, _generate, __doc__, argv)


def _generate(config: GenerateConfig) -> str:
    from ddpm_seg.pipeline.generate.job import run_generate
    from ddpm_seg.pipeline.generate.plan import plan_generate
    from ddpm_seg.pipeline.job import dry_run

    if config.dry_run:
        return dry_run(plan_generate(config))
    return describe(run_generate(config))


def describe(summary: GenerateSummary) -> str:
    """The report to print: how many samples were drawn, how good they are, and where they are."""
    drawn, failed = sum(run.ok for run in summary.runs), sum(run.images - run.ok for run in summary.runs)
    speeds = [run.images_per_hour for run in summary.runs if run.images_per_hour]
    lines = [f"{drawn} samples drawn, {failed} errors" if summary.runs else "nothing new to draw"]
    if speeds:
        lines[0] += f", {speeds[-1]:,.0f} per hour"
    if summary.quality:
        found = summary.quality
        lines += [
            f"distance from {found['real_images']} real images: Fréchet {found['frechet_distance']:.4g}, "
            f"kernel {found['kernel_distance']:.4g} ± {found['kernel_distance_deviation']:.2g} "
            f"(over {found['num_features']} {found['features']})"
        ]
    lines += [
        f"{summary.already_done} drawn before",
        f"samples  {summary.samples}",
        f"report   {summary.report}",
        "",
        "    import datasets",
        f"    datasets.load_dataset('parquet', data_files={summary.samples + '/**/*.parquet'!r})['train'][0]['image']",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
