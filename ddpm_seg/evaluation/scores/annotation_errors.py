"""Finds annotations that are probably wrong, using models that were not trained on them."""

# Shapes: K classes, annotated images of H x W pixels.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

SOFTMIN_TEMPERATURE = 0.1
MIN_SHARE = 0.002
"""Share of an image's pixels that a class needs to count in `weakest_class`: enough for a nose or an eyebrow."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Suspect:
    """A connected region that is annotated as one class while the model predicts another."""

    annotated: int
    suggested: int
    pixels: int
    doubt: float
    """How much more probable the suggested class is, summed over the region's pixels: large, certain regions come
    first."""
    rows: slice
    columns: slice


def label_quality(p_KHW: NDArray[np.float32], label: NDArray[np.uint8], ignore_label: int | None = None) -> float:
    """How well an image's annotation (H, W) agrees with out-of-fold probabilities: from 0 to 1, small if it is wrong.

    The softmin over pixels of the annotated class's probability (Lad & Mueller, 2023, "Estimating label quality and
    errors in semantic segmentation data via any model"): a mean in which doubtful pixels weigh most, so that even a
    small error shows. 1 if no pixel is annotated.
    """
    given = _given(p_KHW, label, ignore_label)
    given = given[~np.isnan(given)]
    if not len(given):
        return 1.0
    weights = np.exp((given.min() - given) / SOFTMIN_TEMPERATURE)
    return float((weights * given).sum() / weights.sum())


def weakest_class(p_KHW: NDArray[np.float32], label: NDArray[np.uint8], ignore_label: int | None = None) -> float:
    """How well the annotation (H, W) agrees with the class that it agrees least with: from 0 to 1.

    Of the pixels that out-of-fold probabilities give to a class: the probability of the annotated class, as a share of
    that of the most probable one. Unlike the softmin it does not drown a wrong part in the doubt that lies along every
    edge. Classes with under 0.2 % of the pixels are left out; 1 if none is left.
    """
    given = _given(p_KHW, label, ignore_label)
    counted = ~np.isnan(given)
    suggested, highest = p_KHW.argmax(axis=0)[counted], p_KHW.max(axis=0)[counted]
    pixels = np.bincount(suggested, minlength=len(p_KHW))
    agreed, sure = (np.bincount(suggested, weights=one, minlength=len(p_KHW)) for one in (given[counted], highest))
    kept = pixels >= max(1, MIN_SHARE * label.size)
    return float((agreed[kept] / sure[kept]).min()) if kept.any() else 1.0


def suspects(
    p_KHW: NDArray[np.float32], label: NDArray[np.uint8], ignore_label: int | None = None, *, min_pixels: int = 4
) -> list[Suspect]:
    """Regions of the annotation (H, W) that are probably wrong, worst first, without those under `min_pixels`."""
    return sorted(_suspects(p_KHW, label, ignore_label, min_pixels), key=lambda one: -one.doubt)


def _suspects(
    p_KHW: NDArray[np.float32], label: NDArray[np.uint8], ignore_label: int | None, least: int
) -> Iterator[Suspect]:
    suggested = p_KHW.argmax(axis=0)
    given = _given(p_KHW, label, ignore_label)
    differs = ~np.isnan(given) & (suggested != label)
    doubt = p_KHW.max(axis=0) - given
    pairs = label.astype(np.int64) * len(p_KHW) + suggested
    for pair in np.unique(pairs[differs]).tolist():
        regions, _ = ndimage.label(differs & (pairs == pair))
        for number, (rows, columns) in enumerate(ndimage.find_objects(regions), start=1):
            inside = regions[rows, columns] == number
            if (pixels := int(inside.sum())) >= least:
                yield Suspect(
                    annotated=pair // len(p_KHW),
                    suggested=pair % len(p_KHW),
                    pixels=pixels,
                    doubt=float(doubt[rows, columns][inside].sum()),
                    rows=rows,
                    columns=columns,
                )


def _given(p_KHW: NDArray[np.float32], label: NDArray[np.uint8], ignore_label: int | None) -> NDArray[np.float32]:
    """The probability of the annotated class (H, W); NaN where no class is annotated, or the ignored one."""
    if label.shape != p_KHW.shape[1:]:
        raise ValueError(f"the annotation has shape {label.shape}, but the probabilities have {p_KHW.shape}")
    known = label < len(p_KHW)
    if ignore_label is not None:
        known &= label != ignore_label
    ids = np.where(known, label, 0).astype(np.int64)
    return np.where(known, np.take_along_axis(p_KHW, ids[None], axis=0)[0], np.nan)
