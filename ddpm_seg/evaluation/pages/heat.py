"""Heat maps: where in an image the model is unsure, as a layer for a page."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ddpm_seg.data.table_pictures import row_mask
from ddpm_seg.evaluation.pages.layers import LONGEST_SIDE, fitted_size, palette_png
from ddpm_seg.evaluation.tables.totals import LabelledRow, read_pictures
from ddpm_seg.runs.parquet import open_parquet

# From zero to the highest value: dark blue, violet, orange, pale yellow.
STOPS = np.array([(13, 8, 60), (126, 3, 168), (240, 110, 60), (250, 250, 170)], np.float64)
LEVELS = 32  # few, so that the pictures are small


def heat_maps(rows: Sequence[LabelledRow]) -> dict[LabelledRow, str]:
    """For each row a heat map as a data: URI; empty if the table has no maps.

    Samples have the uncertainty of each pixel, labels made with --maps its confidence. All maps have one scale: the
    brightest pixel of any of them has the last colour.
    """
    column = _column(rows)
    if column is None:
        return {}
    maps = {row: _doubt(row, data, column) for row, data in read_pictures(rows, column).items() if data}
    highest = max((int(one.max()) for one in maps.values()), default=0) or 1
    return {
        row: palette_png((one / highest * (LEVELS - 1)).round().astype(np.uint8), _colours())
        for row, one in maps.items()
    }


def heat_colours(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Colours (..., 3) uint8 for values in [0, 1]."""
    stops = np.linspace(0, 1, len(STOPS))
    return np.stack([np.interp(values, stops, channel) for channel in STOPS.T], axis=-1).astype(np.uint8)


def _column(rows: Sequence[LabelledRow]) -> str | None:
    if not rows:
        return None
    with open_parquet(rows[0].file) as file:
        names = file.schema_arrow.names
    return next((name for name in ("uncertainty_map", "confidence_map") if name in names), None)


def _doubt(row: LabelledRow, data: bytes, column: str) -> NDArray[np.uint8]:
    """(h, w) uint8, large where the model is unsure, at the size of a layer."""
    stored = row_mask(
        {"uri": row.uri, "width": row.width, "height": row.height, column: data}, column=column, file=row.file
    )
    small = np.asarray(Image.fromarray(stored).resize(fitted_size(stored.shape, LONGEST_SIDE), Image.Resampling.BOX))
    return small if column == "uncertainty_map" else 255 - small


def _colours() -> list[int]:
    return heat_colours(np.linspace(0, 1, LEVELS)).reshape(-1).tolist()
