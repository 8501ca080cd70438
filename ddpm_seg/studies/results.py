"""The results of a comparison: what each method scored on each split, and the table of means over the splits."""

# Shapes: K classes.

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.evaluation.scores.miou import class_ious, published_miou
from ddpm_seg.json_text import json_file
from ddpm_seg.markdown_text import markdown_table
from ddpm_seg.tasks import Task

PLENTY = "plenty"
"""Name of the split that is the upper bound: many images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """The scores of one method trained on one split."""

    method: str
    """The method's name in the table."""
    split: str
    """Name of the split that it was trained on."""
    settings: dict[str, Any]
    """Everything that the scores depend on, with JSON's types."""
    miou: float
    """Mean IoU by the published formula, in [0, 1]."""
    ious: dict[str, float]
    """IoU by class name, in [0, 1]."""


def scored(method: str, split: str, settings: dict[str, Any], confusion: NDArray[np.int64], task: Task) -> Result:
    """The result with the scores of a `confusion` matrix (K + 1, K + 1)."""
    ious = dict(zip(task.class_names, class_ious(confusion).tolist(), strict=True))
    miou = published_miou(confusion, task.ignore_label)
    return Result(method=method, split=split, settings=settings, miou=miou, ious=ious)


def write_result(uri: str, result: Result) -> None:
    """Writes `result` as JSON, atomically."""
    storage.write_bytes(uri, json_file(asdict(result)))


def stored_result(uri: str, settings: dict[str, Any]) -> Result | None:
    """The result stored at `uri`; None if there is none or it has other `settings`.

    Raises ValueError for a file that is not a result.
    """
    if not storage.exists(uri):
        return None
    try:
        result = Result(**json.loads(storage.read_bytes(uri)))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{uri} is not a result of a comparison ({error}); delete it") from None
    return result if result.settings == settings else None


def summarise(results: Sequence[Result]) -> list[dict[str, Any]]:
    """One row per method, in the order of `results`, for JSON: mean and deviation over its splits, for every score.

    The upper bound (`PLENTY`) has a row of its own, even if it was trained on as few images. The deviation is the
    sample standard deviation (n - 1); None for a single split.
    """
    rows = []
    for method, plenty in dict.fromkeys((result.method, result.split == PLENTY) for result in results):
        own = [result for result in results if (result.method, result.split == PLENTY) == (method, plenty)]
        rows.append(
            {
                "method": method,
                "splits": [result.split for result in own],
                "miou": mean_and_deviation([result.miou for result in own]),
                "ious": {name: mean_and_deviation([result.ious[name] for result in own]) for name in own[0].ious},
            }
        )
    return rows


def as_markdown(rows: Sequence[dict[str, Any]]) -> str:
    """The `rows` of `summarise` as a Markdown table: mean ± deviation, or only the mean for a single split."""
    names = list(rows[0]["ious"])
    scores = ([row["method"], _show(row["miou"], 3), *(_show(row["ious"][name], 2) for name in names)] for row in rows)
    return markdown_table(["", "mIoU", *names], scores)


def mean_and_deviation(values: Sequence[float | None]) -> dict[str, float | None]:
    """Mean and sample standard deviation of the values that are not None; None if there are too few."""
    known = [value for value in values if value is not None]
    return {
        "mean": statistics.fmean(known) if known else None,
        "deviation": statistics.stdev(known) if len(known) > 1 else None,
    }


def _show(score: dict[str, float | None], digits: int) -> str:
    mean, deviation = f"{score['mean']:.{digits}f}", score["deviation"]
    return mean if deviation is None else f"{mean} ± {deviation:.{digits}f}"
