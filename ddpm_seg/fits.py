"""How an image of any shape meets a network's square, and which way a bundle says that its own images did."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal, get_args

logger = logging.getLogger(__name__)

FitMode = Literal["letterbox", "stretch"]
"""letterbox keeps the aspect ratio and pads, stretch distorts."""

Average = Literal["none", "mirror", "shifts"]
"""Which views of an image the network sees: mirror, the image and its mirror image; shifts, four images half a network
pixel apart."""

KEY = "fit"
"""Key in a bundle's provenance, which is not part of its model_id: `config_hash` has the fit itself."""


def with_fit(provenance: Mapping[str, Any], fit: FitMode) -> dict[str, Any]:
    """`provenance` of a model that learned from images that were fitted by `fit`."""
    return {**provenance, KEY: fit}


def recorded_fit(provenance: Mapping[str, Any]) -> FitMode | None:
    """How the images were fitted that a model with this `provenance` learned from; None if it does not matter.

    Bundles of earlier releases do not say: they letterboxed. Published networks learned from square images, which both
    ways leave alike. Raises ValueError for a fit that does not exist.
    """
    if KEY in provenance:
        fit = provenance[KEY]
        if fit not in get_args(FitMode):
            raise ValueError(f"provenance: {KEY} is {str(fit)[:40]!r}, expected one of {', '.join(get_args(FitMode))}")
        return fit
    return None if "converted" in provenance and "ensemble" not in provenance else "letterbox"


def fit_of(provenance: Mapping[str, Any], asked: FitMode | None = None) -> FitMode:
    """`asked`, else the fit of the model with this `provenance`."""
    return asked or recorded_fit(provenance) or "letterbox"


def chosen_fit(model: str, provenance: Mapping[str, Any], asked: FitMode | None) -> FitMode:
    """Like `fit_of`, with a warning if `asked` is not how the images were fitted that `model` learned from."""
    recorded = recorded_fit(provenance)
    if asked is not None and recorded not in (None, asked):
        logger.warning(
            "--fit %s, but %s learned from images that were fitted by %s: expect worse masks of images that are not "
            "square; leave --fit out to take the model's own",
            asked,
            model,
            recorded,
        )
    return fit_of(provenance, asked)
