"""The scores of a study of corruptions as rows for CSV, and as a Markdown table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from statistics import fmean

import numpy as np
from scipy import stats

from ddpm_seg.csv_text import csv_text
from ddpm_seg.markdown_text import markdown_table
from ddpm_seg.studies.corruptions.cells import Cell
from ddpm_seg.studies.corruptions.config import CLEAN
from ddpm_seg.studies.results import mean_and_deviation


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """A model's scores under one corruption, over the splits; deviations are None for a single split."""

    model: str
    kind: str
    """A kind of corruption, "clean", or the name of another set of images."""
    severity: int
    """1 to 5; 0 for images as they are."""
    miou: float
    """Mean IoU by the published formula, in [0, 1]."""
    deviation: float | None
    relative_drop: float | None
    """What is lost of the same split's mean IoU on clean images, as a share of it; None if that is 0."""
    drop_deviation: float | None
    domain_distance: float | None
    """Mean over images and splits; None for a model that does not know its training images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A model over all kinds and severities; `mean` and `deviation` over the splits."""

    model: str
    clean: dict[str, float | None]
    corrupted: dict[str, float | None]
    relative_drop: dict[str, float | None]
    rank_correlation: float | None
    """Spearman's, between domain distance and mean IoU, over clean images, other sets and corruptions; None if the
    model has no distances."""


def scores_of(cells: Sequence[Cell]) -> list[Score]:
    """One row per cell, in their order."""
    return [_score(cell, _clean(cells, cell.model)) for cell in cells]


def summaries_of(cells: Sequence[Cell]) -> list[Summary]:
    """One per model, in their order."""
    return [_summary(model, cells) for model in dict.fromkeys(cell.model for cell in cells)]


def as_csv(scores: Sequence[Score]) -> str:
    """The data behind the figures."""
    return csv_text([field.name for field in fields(Score)], map(astuple, scores))


def as_markdown(scores: Sequence[Score], summaries: Sequence[Summary]) -> str:
    """A line per kind, with means over its severities, and a column per model: mean IoU and its change from the clean
    images'; of images as they are, also the domain distance."""
    models = [one.model for one in summaries]
    clean = [score for score in scores if score.kind == CLEAN]
    lines = [[CLEAN, *(_shown(all_of.clean) + _distance(one) for all_of, one in zip(summaries, clean, strict=True))]]
    for kind in dict.fromkeys(score.kind for score in scores if score.kind != CLEAN):
        own = [[score for score in scores if (score.model, score.kind) == (model, kind)] for model in models]
        lines.append([kind.replace("_", " "), *(_mean_of(few) for few in own)])
    if any(one.corrupted["mean"] is not None for one in summaries):
        means = [f"{_shown(one.corrupted)} ({_percent(one.relative_drop)})" for one in summaries]
        lines.append(["mean of all corruptions", *means])
    return markdown_table(["mean IoU (change)", *models], lines)


def _clean(cells: Sequence[Cell], model: str) -> Cell:
    return next(cell for cell in cells if (cell.model, cell.kind) == (model, CLEAN))


def _score(cell: Cell, clean: Cell) -> Score:
    miou, drop = mean_and_deviation([one.miou for one in cell.splits]), mean_and_deviation(_drops(cell, clean))
    assert miou["mean"] is not None  # there is at least one split
    known = [one.domain_distance for one in cell.splits if one.domain_distance is not None]
    return Score(
        model=cell.model,
        kind=cell.kind,
        severity=cell.severity,
        miou=miou["mean"],
        deviation=miou["deviation"],
        relative_drop=drop["mean"],
        drop_deviation=drop["deviation"],
        domain_distance=fmean(known) if known else None,
    )


def _drops(cell: Cell, clean: Cell) -> list[float | None]:
    """For each split, the share of its clean score that is lost."""
    pairs = zip(cell.splits, clean.splits, strict=True)
    return [1 - one.miou / whole.miou if whole.miou else None for one, whole in pairs]


def _summary(model: str, cells: Sequence[Cell]) -> Summary:
    clean, own = _clean(cells, model), [cell for cell in cells if cell.model == model]
    corrupted = [cell for cell in own if cell.severity]
    by_split = zip(*(_drops(one, clean) for one in corrupted), strict=True)
    drops = [[drop for drop in few if drop is not None] for few in by_split]
    return Summary(
        model=model,
        clean=mean_and_deviation([one.miou for one in clean.splits]),
        corrupted=mean_and_deviation(
            [fmean(one.miou for one in few) for few in zip(*(cell.splits for cell in corrupted), strict=True)]
        ),
        relative_drop=mean_and_deviation([fmean(few) if few else None for few in drops]),
        rank_correlation=_rank_correlation([_score(cell, clean) for cell in own]),
    )


def _rank_correlation(scores: Sequence[Score]) -> float | None:
    known = [(one.domain_distance, one.miou) for one in scores if one.domain_distance is not None]
    if len(known) < 3:
        return None
    found = float(stats.spearmanr(*np.array(known).T).statistic)
    return found if np.isfinite(found) else None


def _mean_of(scores: Sequence[Score]) -> str:
    drops = [score.relative_drop for score in scores if score.relative_drop is not None]
    lost = f" ({-100 * fmean(drops):+.0f} %)" if drops else ""
    return f"{fmean(score.miou for score in scores):.3f}{lost}{_distance(scores[0])}"


def _distance(score: Score) -> str:
    """The domain distance of images as they are; corrupted ones are told apart in the CSV."""
    return "" if score.severity or score.domain_distance is None else f", distance {score.domain_distance:.2f}"


def _shown(score: dict[str, float | None]) -> str:
    deviation = "" if score["deviation"] is None else f" ± {score['deviation']:.3f}"
    return f"{score['mean']:.3f}{deviation}"


def _percent(drop: dict[str, float | None]) -> str:
    if drop["mean"] is None:
        return "–"
    deviation = "" if drop["deviation"] is None else f" ± {100 * drop['deviation']:.1f}"
    return f"{-100 * drop['mean']:+.1f}{deviation} %"
