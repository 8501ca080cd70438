"""Figures of studies, for those who have matplotlib (extra `plots`)."""

from __future__ import annotations

import importlib.util
import io
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ddpm_seg.evaluation.pages.page import count, middle

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

# As many markers as are prime to the number of styles, so that 28 lines differ, in black and white too. The colours are
# the pages'.
COLOURS, STYLES, MARKERS = ("#3f6f8f", "#a3342a", "#2c7a3f", "#575f69"), ("-", "--", ":", "-."), "os^DvPX"
LEAST_SPAN = 0.1
"""The least span of an axis of mean IoUs. A smaller one would make noise look like a trend."""


def drawn(draw: Callable[[], dict[str, bytes]]) -> dict[str, bytes]:
    """What `draw` returns; without matplotlib nothing, and a warning."""
    if importlib.util.find_spec("matplotlib") is None:
        logger.warning("no figure is drawn, which needs matplotlib: pip install 'ddpm_seg[plots]'")
        return {}
    return draw()


def saved(figure: Figure) -> dict[str, bytes]:
    """PNG and SVG of `figure`, by their suffix; the same figure gives the same bytes."""
    import matplotlib

    files = {}
    with matplotlib.rc_context({"svg.hashsalt": "ddpm_seg"}):
        for suffix in ("png", "svg"):
            file = io.BytesIO()
            figure.savefig(file, format=suffix, metadata={"Date": None} if suffix == "svg" else None)
            files[suffix] = file.getvalue()
    return files


def line(number: int) -> dict[str, Any]:
    """How matplotlib draws the `number`th line of a figure: `color`, `marker` and `linestyle`."""
    return {
        "color": COLOURS[number % len(COLOURS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": STYLES[number % len(STYLES)],
    }


def least_span(low: float, high: float) -> tuple[float, float]:
    """`low` and `high`, moved apart to `LEAST_SPAN` if they are closer."""
    missing = max(0.0, LEAST_SPAN - (high - low))
    return low - missing / 2, high + missing / 2


def add_title(figure: Figure, text: str) -> None:
    """Sets `text` above all panels, without its middle if the figure is too narrow for it."""
    figure.suptitle(middle(text, int(11 * figure.get_figwidth())), fontsize=10)


def legend_below(figure: Figure, axes: Axes, columns: int) -> None:
    """Adds a legend of `axes` below all panels, in at most `columns` columns that fit; the figure grows by it."""
    handles, labels = axes.get_legend_handles_labels()
    names = [middle(label, 44) for label in labels]
    for fewer in range(columns, 0, -1):
        legend = figure.legend(handles, names, loc="outside lower center", ncols=fewer, fontsize=8)
        extent = legend.get_window_extent()
        if fewer == 1 or extent.width <= figure.bbox.width:
            break
        legend.remove()
    figure.set_figheight(figure.get_figheight() + extent.height / figure.dpi)


def curve_figure(curves: Mapping[str, Sequence[Mapping[str, Any]]], over: str, label: str) -> dict[str, bytes]:
    """PNG and SVG of mean IoUs (`miou`, with `deviation` as bars) over the numbers `over`, on a logarithmic axis: one
    line for each of `curves`, by its name.

    Needs matplotlib (extra `plots`).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 3.2), layout="constrained", dpi=150)
    axes = figure.subplots()
    for number, (name, points) in enumerate(curves.items()):
        axes.errorbar(
            [point[over] for point in points],
            [point["miou"] for point in points],
            [point["deviation"] or 0 for point in points],
            label=name,
            capsize=3,
            **line(number),
        )
    axes.set_xscale("log")
    axes.minorticks_off()
    _label_ticks(axes, sorted({point[over] for points in curves.values() for point in points}))
    axes.set_xlabel(label)
    axes.set_ylabel("mean IoU")
    axes.set_ylim(least_span(*axes.get_ylim()))
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        axes.legend(fontsize=8)
    return saved(figure)


def _label_ticks(axes: Axes, ticks: Sequence[int]) -> None:
    """Marks all `ticks`, and writes the numbers of as many as there is room for, the last one among them."""
    room = 0.024  # of a digit, as a share of the axis
    low, high = (math.log(limit) for limit in axes.get_xlim())
    labels, free = [], math.inf
    for tick in reversed(ticks):
        at, half = (math.log(tick) - low) / (high - low), room * (len(count(tick)) + 1) / 2
        fits = at + half <= free
        labels.append(count(tick) if fits else "")
        free = at - half if fits else free
    axes.set_xticks(ticks, labels[::-1])
