"""Scores models on corrupted images: ImageNet-C's fifteen kinds at five severities, beside the clean images.

    ddpm-seg corruptions --model avatars-10 --supervised --task avatars_10 \\
        --train avatars/annotated-{1,2,3,4,5} --test avatars/test \\
        --mirror --output corruptions
    ddpm-seg corruptions --model s3://models/ffhq s3://models/mae \\
        --task ffhq_34 --train s3://photos/annotated --splits 5 --shots 20 \\
        --kinds fog snow --output s3://photos/corruptions
    ddpm-seg corruptions --model avatars-10 --task avatars_10 \\
        --train avatars/annotated-1 --test avatars/test \\
        --others drawings sketches --output shift

Trains an ensemble on each network's features for each split, and with --supervised a small U-Net from scratch. Scores
them on the test images, on corrupted copies of them (Hendrycks & Dietterich, 2019), and on --others as they are. The
copies are the same every time. --others without --kinds scores on no corrupted ones.

Writes corruptions.csv and corruptions.md: mean IoU, what is lost of it, and how far the images lie from those of the
training (domain_distance). Draws corruptions.png and .svg, and distance.png and .svg (extra plots).

After an interruption, the same command continues.
"""

from __future__ import annotations

import sys

from ddpm_seg import storage
from ddpm_seg.command_line.run import run
from ddpm_seg.errors import work_began
from ddpm_seg.studies.corruptions.config import CorruptionsConfig


def main(argv: list[str] | None = None) -> int:
    return run(CorruptionsConfig, _corruptions, __doc__, argv)


def _corruptions(config: CorruptionsConfig) -> str:
    from ddpm_seg.studies.corruptions.corruptions import run_corruptions
    from ddpm_seg.studies.corruptions.figure import against_distance, curves
    from ddpm_seg.studies.corruptions.table import as_csv, as_markdown, scores_of, summaries_of
    from ddpm_seg.studies.figures import drawn

    cells = run_corruptions(config)
    scores, summaries = scores_of(cells), summaries_of(cells)
    table = as_markdown(scores, summaries)
    with work_began():
        files = {"corruptions.csv": as_csv(scores).encode(), "corruptions.md": table.encode()}
        figures = {}
        if config.chosen_kinds:
            figures["corruptions"] = drawn(lambda: curves(scores, config.task))
        if any(score.domain_distance is not None for score in scores):
            figures["distance"] = drawn(lambda: against_distance(scores, config.task))
        files |= {f"{name}.{end}": content for name, own in figures.items() for end, content in own.items()}
        for name, content in files.items():
            storage.write_bytes(storage.join(config.output, name), content)
    known = {one.model: one.rank_correlation for one in summaries if one.rank_correlation is not None}
    lines = [f"{name}: rank correlation of mean IoU and domain_distance {found:.2f}" for name, found in known.items()]
    return "\n".join(
        [table, *lines, f"files: {', '.join(storage.redact(storage.join(config.output, one)) for one in files)}"]
    )


if __name__ == "__main__":
    sys.exit(main())
