"""Figures of studies, for those who have matplotlib (extra `plots`)."""

from __future__ import annotations

import importlib.util
import io
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)


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
