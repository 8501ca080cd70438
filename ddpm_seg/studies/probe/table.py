"""The grid of a probe: as rows for CSV and JSON, and as a Markdown table."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from ddpm_seg.csv_text import csv_text
from ddpm_seg.markdown_text import markdown_table
from ddpm_seg.studies.probe.probe import Place, Probe
from ddpm_seg.studies.results import Result, mean_and_deviation

Which = Literal["all", "small", "large"]
TITLES: dict[Which, str] = {"all": "all classes", "small": "small classes", "large": "large classes"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """The scores of one step and block: means over the splits, in [0, 1]."""

    step: int | None
    block: int
    miou: float
    """Mean IoU by the published formula."""
    deviation: float | None
    """Sample standard deviation over the splits; None for a single split."""
    small: float | None
    """Mean IoU of the small classes; None if there are none."""
    large: float | None
    """Mean IoU of the others."""

    def score(self, which: Which) -> float | None:
        return {"all": self.miou, "small": self.small, "large": self.large}[which]


def rows_of(probe: Probe) -> list[Row]:
    """One row per step and block, in the order of the features."""
    return [_row(place, probe.results[place], probe) for place in probe.places]


def best(rows: list[Row]) -> Row:
    """The row with the highest mean IoU."""
    return max(rows, key=lambda row: row.miou)


def as_csv(rows: list[Row]) -> str:
    """The data behind the figure; a network without timesteps has an empty column step."""
    header = ["step", "block", "miou", "deviation", "small_classes", "large_classes"]
    return csv_text(header, ([row.step, row.block, row.miou, row.deviation, row.small, row.large] for row in rows))


def as_markdown(rows: list[Row]) -> str:
    """One table of mean IoUs: a line per step, a column per block."""
    blocks = sorted({row.block for row in rows})
    lines = []
    for step in dict.fromkeys(row.step for row in rows):
        scores = {row.block: f"{row.miou:.3f}" for row in rows if row.step == step}
        lines.append(["" if step is None else str(step), *(scores[block] for block in blocks)])
    return markdown_table(["step", *(f"block {block}" for block in blocks)], lines)


def _row(place: Place, results: list[Result], probe: Probe) -> Row:
    score = mean_and_deviation([one.miou for one in results])
    assert score["mean"] is not None  # there is at least one split
    scored = [name for i, name in enumerate(probe.task.class_names) if i != probe.task.ignore_label]
    large = [name for name in scored if name not in probe.small]
    small, others = (_mean(results, names) for names in (list(probe.small), large))
    step, block = place
    return Row(step=step, block=block, miou=score["mean"], deviation=score["deviation"], small=small, large=others)


def _mean(results: list[Result], names: list[str]) -> float | None:
    return fmean(one.ious[name] for one in results for name in names) if names else None
