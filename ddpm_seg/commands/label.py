"""Segments every image under a prefix: masks, uncertainty and class statistics as Parquet tables, made on Ray.

    ddpm-seg label  # sample images, bundled model, into ./out
    ddpm-seg label --input photos/ --output out/
    # only print the plan
    ddpm-seg label --input photos/ --output out/ --dry-run
    ray job submit --working-dir . -- ddpm-seg label \\
        --input s3://bucket/photos --output s3://bucket/labels

Running the same command again finishes an interrupted run and labels images that are new or have changed.

Exit status of every job: 0 done (an image that cannot be read is a row with its error); 2 an option, input, output or
cluster cannot be used; 3 the job stopped itself (more errors than --max-errors, or a training diverged); 4 interrupted,
or failed in a way that may pass: run the same command again to continue; 5 another process is doing the same work.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ddpm_seg import storage
from ddpm_seg.command_line.run import run
from ddpm_seg.pipeline.label.config import LabelConfig
from ddpm_seg.printable import printable

if TYPE_CHECKING:
    from ddpm_seg.pipeline.label.job import LabelSummary


def main(argv: list[str] | None = None) -> int:
    return run(LabelConfig, _label, __doc__, argv)


def _label(config: LabelConfig) -> str:
    from ddpm_seg.pipeline.job import dry_run
    from ddpm_seg.pipeline.label.job import run_label
    from ddpm_seg.pipeline.label.plan import plan_label

    if config.dry_run:
        from ddpm_seg.pipeline.label.trial import about_images, time_images

        return dry_run(plan_label(config), time_images, about_images)
    summary = run_label(config)
    return describe(summary) + _annotate_next(summary.annotate_next, config.output)


def _annotate_next(uris: tuple[str, ...], output: str) -> str:
    if not uris:
        return ""
    from ddpm_seg.evaluation.pages.annotate_next import LIST, PAGE

    files = [f"list         {storage.join(output, LIST)}", f"page         {storage.join(output, PAGE)}"]
    return "\n".join(["", "", "to annotate next:", *(f"    {printable(uri)}" for uri in uris), *files])


def describe(summary: LabelSummary) -> str:
    """The report to print: how many images were labelled, and where the tables and the report are."""
    errors = ", ".join(f"{number} {kind}" for kind, number in summary.errors.items())
    counts = f"{summary.images} images: {summary.ok} labelled, {summary.images - summary.ok} errors"
    return "\n".join(
        [
            counts + (f" ({errors})" if errors else "") if summary.runs else "nothing new to label",
            f"{summary.already_done} done before, {summary.skipped_files} other files left out",
            f"labels       {summary.labels}",
            f"class stats  {summary.class_stats}",
            f"report       {summary.report}",
            *_mean_areas(summary),
        ]
    )


def _mean_areas(summary: LabelSummary) -> list[str]:
    """Lines of Python that compute the report's mean area per class; an image without a class counts as 0."""
    if summary.last_run is None:
        return []
    return [
        "",
        "    import pandas",
        f"    stats = pandas.read_parquet({storage.join(summary.class_stats, f'run={summary.last_run}')!r})",
        "    stats.groupby('class_name').fraction.sum() / stats.image_id.nunique()",
    ]


if __name__ == "__main__":
    sys.exit(main())
