"""The heat maps of a probe: where the information is."""

from __future__ import annotations

import numpy as np

from ddpm_seg.studies.figures import add_title, least_span, saved
from ddpm_seg.studies.probe.table import TITLES, Row, Which

COLOURS = "cividis"  # its lightness rises with the value: it can be read in black and white
CELL_INCHES = 0.62
MOST_BESIDE = 8  # blocks of maps that stand side by side; wider ones stand below each other


def heat_maps(rows: list[Row], title: str) -> dict[str, bytes]:
    """PNG and SVG, by their suffix: one map each for all, small and large classes.

    Needs matplotlib (extra `plots`).
    """
    from matplotlib.figure import Figure

    shown: list[Which] = [which for which in TITLES if all(row.score(which) is not None for row in rows)]
    steps, blocks = list(dict.fromkeys(row.step for row in rows)), sorted({row.block for row in rows})
    across = len(shown) if len(blocks) <= MOST_BESIDE else 1
    down = len(shown) // across
    width, height = max(2.6, CELL_INCHES * len(blocks) + 0.9), max(2.2, 0.7 * CELL_INCHES * len(steps) + 1.4)
    figure = Figure(figsize=(width * across, height * down), layout="constrained", dpi=150)
    add_title(figure, title)
    for axes, which in zip(figure.subplots(down, across, squeeze=False).flat, shown, strict=True):
        grid = np.full((len(steps), len(blocks)), np.nan)
        for row in rows:
            grid[steps.index(row.step), blocks.index(row.block)] = row.score(which)
        low, high = least_span(np.nanmin(grid), np.nanmax(grid))
        axes.imshow(grid, cmap=COLOURS, aspect="auto", vmin=low, vmax=high)
        axes.set_title(f"{TITLES[which]}, mean IoU", fontsize=9)
        axes.set_xlabel("block", fontsize=8)
        axes.set_xticks(range(len(blocks)), blocks, fontsize=8)
        axes.set_yticks(range(len(steps)), ["" if step is None else step for step in steps], fontsize=8)
        if steps != [None]:
            axes.set_ylabel("timestep", fontsize=8)
        for (y, x), value in np.ndenumerate(grid):
            colour = "black" if value > (low + high) / 2 else "white"
            axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    return saved(figure)
