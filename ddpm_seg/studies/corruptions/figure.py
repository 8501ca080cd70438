"""The figures of a study of corruptions: mean IoU by kind and severity, and against the domain distance."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np

from ddpm_seg.data.domain import OUTSIDE
from ddpm_seg.studies.corruptions.config import CLEAN
from ddpm_seg.studies.corruptions.table import Score
from ddpm_seg.studies.figures import add_title, least_span, legend_below, line, saved

COLUMNS = 5


def curves(scores: Sequence[Score], title: str) -> dict[str, bytes]:
    """PNG and SVG, by their suffix: a panel for each kind with a line for each model, from the clean images on.

    Bars are deviations over the splits. Needs matplotlib (extra `plots`), and at least one kind.
    """
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(score.kind for score in scores if score.severity))
    columns = min(COLUMNS, len(kinds))
    rows = ceil(len(kinds) / columns)
    size = (max(4.0, 2.0 * columns), 1.7 * rows + 0.9)
    figure = Figure(figsize=size, layout="constrained", dpi=150)
    add_title(figure, title)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, kind in zip(panels, kinds, strict=False):
        for number, model in enumerate(dict.fromkeys(score.model for score in scores)):
            own = [one for one in scores if one.model == model and one.kind in (CLEAN, kind)]
            own.sort(key=lambda score: score.severity)
            axes.errorbar(
                [one.severity for one in own],
                [one.miou for one in own],
                [one.deviation or 0 for one in own],
                label=model,
                markersize=3.5,
                linewidth=1.1,
                capsize=2,
                **line(number),
            )
        axes.set_title(kind.replace("_", " "), fontsize=8)
        axes.grid(alpha=0.3)
        axes.tick_params(labelsize=7)
    for axes in panels[len(kinds) :]:
        axes.set_axis_off()
    for axes in panels[max(0, len(kinds) - columns) : len(kinds)]:  # the lowest of each column
        axes.set_xlabel("severity", fontsize=8)
        axes.tick_params(labelbottom=True)
    severities = sorted({score.severity for score in scores})
    panels[0].set_xticks(severities, ["clean" if one == 0 else str(one) for one in severities])
    panels[0].set_ylim(least_span(*panels[0].get_ylim()))
    figure.supylabel("mean IoU", fontsize=8)
    legend_below(figure, panels[0], columns=4)
    return saved(figure)


def against_distance(scores: Sequence[Score], title: str) -> dict[str, bytes]:
    """PNG and SVG, by their suffix: every clean, other or corrupted set as a point, its mean IoU over its domain
    distance. Each model that knows its training images has a marker.

    Needs matplotlib (extra `plots`), and at least one such model.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.6), layout="constrained", dpi=150)
    axes = figure.subplots()
    add_title(figure, title)
    models = dict.fromkeys(score.model for score in scores if score.domain_distance is not None)
    for number, model in enumerate(models):
        own = [score for score in scores if score.model == model]
        points = np.array([[score.domain_distance, score.miou] for score in own], dtype=float)
        color, marker = line(number)["color"], line(number)["marker"]
        filled = np.array([score.severity == 0 for score in own])
        axes.scatter(
            points[~filled, 0],
            points[~filled, 1],
            s=14,
            marker=marker,
            facecolors="none",
            edgecolors=color,
            label=model,
        )
        axes.scatter(
            points[filled, 0], points[filled, 1], s=40, marker=marker, color=color, label=f"{model}, not corrupted"
        )
    axes.axvline(OUTSIDE, color="#575f69", linestyle="--", linewidth=1)
    axes.text(OUTSIDE, 0.98, " outside", transform=axes.get_xaxis_transform(), va="top", fontsize=7, color="#575f69")
    axes.set_xscale("log")
    for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        axis("{x:g}")
    axes.set_xlabel("domain distance, mean of the images", fontsize=8)
    axes.set_ylabel("mean IoU", fontsize=8)
    axes.tick_params(labelsize=7, which="both")
    axes.grid(alpha=0.3)
    axes.set_ylim(least_span(*axes.get_ylim()))
    legend_below(figure, axes, columns=2)
    return saved(figure)
