"""Detects whether a run's images differ from those of earlier runs, by class areas and uncertainties."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as students_t

from ddpm_seg import storage
from ddpm_seg.evaluation.tables.totals import Totals
from ddpm_seg.runs.layout import RunLayout, run_number, uris_under
from ddpm_seg.runs.parquet import DamagedFileError
from ddpm_seg.runs.summary import read_json

logger = logging.getLogger(__name__)

# Earlier runs to compare with: a month of nightly runs.
MOST_RUNS = 30

# Images that a measure needs in a run; a mean over fewer is mostly chance.
FEWEST_IMAGES = 20

# Earlier runs that a measure needs; fewer do not show how much runs differ anyway.
FEWEST_RUNS = 5

# Report a mean that moved with p < CHANCE, and by more than SHARE of its earlier value.
CHANCE, SHARE = 0.001, 0.1

READERS = 8  # files read at once: with a distant store most of the time is latency

Measure = tuple[str | None, str]
"""Class name (None: the whole image) and "area" or "uncertainty"."""

Moments = Mapping[str, float]
"""`images` (their number), `mean` and `variance` of a measure in one run."""


def statistics_of(totals: Totals) -> dict[str, Any]:
    """What later runs compare with, for this run's `summary.json`: number of images, mean and variance of each measure.

    The top-level `uncertainty` is that of the images, in nats. For each class, `area` is its share of the pixels over
    all labelled images, 0 in those without it; `uncertainty` is its mean, in nats, over the images that have it.
    """
    names = totals.task.class_names if totals.task else ()
    return {
        "uncertainty": _moments(totals.image_uncertainty),
        "classes": {
            name: {
                "area": _moments(np.array([totals.ok, totals.area[class_id], totals.area_squares[class_id]])),
                "uncertainty": _moments(totals.class_uncertainty[:, class_id]),
            }
            for class_id, name in enumerate(names)
        },
    }


def earlier_statistics(layout: RunLayout) -> list[dict[str, Any]]:
    """`statistics_of` the last runs of the same configuration before this one: at most 30, skipping unreadable ones."""
    mine = run_number(layout.summary) or 0
    summaries = {uri: run_number(uri) or 0 for uri in uris_under(storage.join(layout.output, "runs"))}
    earlier = [uri for uri, number in summaries.items() if uri.endswith("/summary.json") and number < mine]
    earlier.sort(key=lambda uri: -summaries[uri])
    found: list[dict[str, Any]] = []
    with ThreadPoolExecutor(READERS) as readers:
        for start in range(0, len(earlier), MOST_RUNS):
            for summary in readers.map(_read_summary, earlier[start : start + MOST_RUNS]):
                if summary.get("config_hash") == layout.config_hash and "statistics" in summary:
                    found.append(summary["statistics"])
            if len(found) >= MOST_RUNS:
                break
    return found[:MOST_RUNS]


def _read_summary(uri: str) -> dict[str, Any]:
    """A run's summary; empty, with a warning, if it cannot be read: an old run must not stop a new one."""
    try:
        summary = read_json(uri)
        if "statistics" in summary:
            _check(summary["statistics"])
        return summary
    except FileNotFoundError:  # deleted since it was listed
        return {}
    except (DamagedFileError, PermissionError, IsADirectoryError) as error:
        logger.warning("%s; the comparison with earlier runs leaves that run out", error)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        logger.warning(
            "%s: its statistics are not understood (%s: %s); the comparison with earlier runs leaves that run out",
            *(storage.redact(uri), type(error).__name__, error),
        )
    return {}


def _check(of_run: Mapping[str, Any]) -> None:
    """Raises an error (of several kinds) if `find_drift` could not use these statistics."""
    for moments in _measures(of_run).values():
        if not all(math.isfinite(moments[name]) for name in ("images", "mean", "variance")):
            raise ValueError("not all numbers are finite")


def find_drift(now: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Finds measures that moved: {"runs": number of earlier runs, "flags": the measures that are far from theirs}.

    A flag has `class_name` (None: the whole image), `measure`, the means `now` and `before` (over `runs` runs with
    equal weight) and `deviation`, the expected deviation of their difference from both chance and the differences among
    the earlier runs. A measure needs 20 images in a run, and five such earlier runs. The most surprising flag comes
    first.
    """
    before = [_measures(one) for one in earlier]
    flags = []
    for measure, mine in _measures(now).items():
        theirs = [one[measure] for one in before if measure in one]
        if len(theirs) >= FEWEST_RUNS and (found := _compare(mine, theirs)):
            flags.append({"class_name": measure[0], "measure": measure[1], **found})
    # If all images are alike, the deviation is 0 and any difference is most surprising.
    flags.sort(key=lambda flag: -abs(flag["now"] - flag["before"]) / max(flag["deviation"], 1e-12))
    return {"runs": len(earlier), "flags": flags}


def describe(flag: Mapping[str, Any]) -> str:
    """One log line about a flag."""
    of_class = f" of {flag['class_name']}" if flag["class_name"] else ""
    moved = f"{flag['now']:.4g}, before {flag['before']:.4g} ± {flag['deviation']:.2g}"
    return f"{flag['measure']}{of_class} has moved: {moved} over {flag['runs']} runs"


def _compare(mine: Moments, theirs: Sequence[Moments]) -> dict[str, Any] | None:
    """Means, deviation and number of runs if the difference is beyond chance and not small, else None."""
    means = [one["mean"] for one in theirs]
    before, between = statistics.fmean(means), statistics.variance(means)
    of_an_image = statistics.fmean(one["variance"] for one in (mine, *theirs))
    of_runs, of_chance = between * (1 + 1 / len(means)), of_an_image / mine["images"]
    deviation, moved = math.sqrt(of_runs + of_chance), abs(mine["mean"] - before)
    # Satterthwaite's degrees of freedom: the variance between a few runs is uncertain, while that of chance comes
    # from many images.
    freedom = (len(means) - 1) * (1 + of_chance / of_runs) ** 2 if of_runs else math.inf
    if moved <= students_t.isf(CHANCE / 2, freedom) * deviation or moved <= SHARE * before:
        return None
    return {"now": mine["mean"], "before": before, "deviation": deviation, "runs": len(means)}


def _measures(of_run: Mapping[str, Any]) -> dict[Measure, Moments]:
    """The measures that have enough images."""
    found: dict[Measure, Moments] = {(None, "uncertainty"): of_run["uncertainty"]}
    for name, measures in of_run["classes"].items():
        found |= {(name, measure): moments for measure, moments in measures.items()}
    return {measure: moments for measure, moments in found.items() if moments["images"] >= FEWEST_IMAGES}


def _moments(sums: NDArray[np.float64]) -> dict[str, float]:
    """Moments from number, sum and sum of squares."""
    images, total, squares = sums.tolist()
    mean = total / max(1, images)
    return {"images": int(images), "mean": mean, "variance": max(0.0, squares / max(1, images) - mean * mean)}
