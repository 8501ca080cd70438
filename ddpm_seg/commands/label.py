"""Segments every image under a prefix: masks, uncertainty and class statistics as Parquet tables, on Ray.

    python -m jobs.label                                              # sample images, bundled model, into ./out
    python -m jobs.label --input photos/ --output out/
    python -m jobs.label --input photos/ --output out/ --dry-run      # what would be done
    ray job submit --working-dir . -- python -m jobs.label --input s3://bucket/photos --output s3://bucket/labels

Run again, it finishes what was interrupted and labels what is new. Exit status: 0 done (images that could not be read
are rows of the table, with their error), 2 wrong use, 3 stopped by itself (more errors than --max-errors; a
training whose loss is no number), 4 interrupted or failed but resumable, 5 another process works on the same run.
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
        return dry_run(plan_label(config))
    summary = run_label(config)
    return describe(summary) + _annotate_next(summary.annotate_next, config.output)


def _annotate_next(uris: tuple[str, ...], output: str) -> str:
    if not uris:
        return ""
    from ddpm_seg.evaluation.pages.annotate_next import LIST, PAGE

    files = [f"list         {storage.join(output, LIST)}", f"page         {storage.join(output, PAGE)}"]
    return "\n".join(["", "", "worth annotating next:", *(f"    {printable(uri)}" for uri in uris), *files])


def describe(summary: LabelSummary) -> str:
    """What a person wants to know next."""
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
    """Lines of Python whose result is the report's mean area of each class: an image without a class counts as 0."""
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
