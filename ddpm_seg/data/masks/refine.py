"""Refines masks so that their edges follow the image's own edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ddpm_seg.data.canvas import Placement
from ddpm_seg.data.fit_options import Refine
from ddpm_seg.data.masks.bilateral import bilateral
from ddpm_seg.data.masks.enlarge import OwnSizeMask, enlarge
from ddpm_seg.data.masks.guided import guided
from ddpm_seg.data.masks.top_classes import TopClasses


def refined(top: TopClasses, placement: Placement, how: Refine, image: NDArray[np.uint8] | None) -> OwnSizeMask:
    """The mask at the image's own size. Unless `how` is "none" it needs `image` (H, W, 3) uint8, and raises ValueError
    without it or for another size."""
    if how == "none":
        return enlarge(top, placement)
    if image is None:
        raise ValueError(f"{how} refinement needs the image itself")
    return (bilateral if how == "bilateral" else guided)(top, placement, image)
