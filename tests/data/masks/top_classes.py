"""The top classes of probabilities, as the model hands them on."""

from __future__ import annotations

import numpy as np

from ddpm_seg.data.masks.top_classes import ONE, TopClasses


def top_classes(p_KSS: np.ndarray) -> TopClasses:
    """Of probabilities (K, S, S) in [0, 1]; of equal ones the smaller id comes first."""
    ids = np.argsort(-p_KSS, axis=0, kind="stable")[:3]
    probabilities = np.take_along_axis(p_KSS, ids, axis=0)
    return TopClasses(ids=ids.astype(np.uint8), probabilities=np.rint(probabilities * ONE).astype(np.uint8))
