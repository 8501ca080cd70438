"""Figures of studies, for those who have matplotlib (extra `plots`)."""

from __future__ import annotations

import importlib.util
import io
import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

# Colour, marker and style: each line differs from the others in black and white too. The colours are the pages'.
LINES = (("#3f6f8f", "o", "-"), ("#a3342a", "s", "--"), ("#2c7a3f", "^", ":"), ("#575f69", "D", "-."))
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


def curve_figure(curves: Mapping[str, Sequence[Mapping[str, Any]]], over: str, label: str) -> dict[str, bytes]:
    """PNG and SVG of mean IoUs (`miou`, with `deviation` as bars) over the numbers `over`, on a logarithmic axis: one
    line for each of `curves`, by its name.

    Needs matplotlib (extra `plots`).
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 3.2), layout="constrained", dpi=150)
    axes = figure.subplots()
    for (name, points), (colour, marker, style) in zip(curves.items(), cycle(LINES), strict=False):
        axes.errorbar(
            [point[over] for point in points],
            [point["miou"] for point in points],
            [point["deviation"] or 0 for point in points],
            label=name,
            capsize=3,
            color=colour,
            marker=marker,
            linestyle=style,
        )
    ticks = sorted({point[over] for points in curves.values() for point in points})
    axes.set_xscale("log")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(label)
    axes.set_ylabel("mean IoU")
    low, high = axes.get_ylim()
    if (missing := LEAST_SPAN - (high - low)) > 0:
        axes.set_ylim(low - missing / 2, high + missing / 2)
    axes.grid(alpha=0.3)
    if len(curves) > 1:
        axes.legend(fontsize=8)
    return saved(figure)
