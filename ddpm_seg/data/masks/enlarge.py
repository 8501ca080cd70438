"""Enlarges the network's probabilities bilinearly to the image's own size, and takes the class there."""

# Shapes: T top classes, S x S the network's square, h x w the image's part of it, H x W the image's own size.

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddpm_seg.data.canvas import Placement
from ddpm_seg.data.masks.grid import Axis
from ddpm_seg.data.masks.top_classes import TopClasses

STRIP_PIXELS = 2**16


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnSizeMask:
    """The class of each of the image's own pixels, and its probability."""

    mask: NDArray[np.uint8]
    """(H, W) uint8 class ids."""
    confidence: NDArray[np.uint8]
    """(H, W) uint8: the probability of the pixel's class, times 255."""


def enlarge(top: TopClasses, placement: Placement) -> OwnSizeMask:
    """The class with the largest bilinear probability at each pixel's centre; on a tie the smallest id.

    A class that is not among a network pixel's top classes counts as 0 there. Works in strips of image rows, so it
    needs only a few megabytes besides the result.
    """
    shape = placement.image_height, placement.image_width
    found = OwnSizeMask(mask=np.zeros(shape, np.uint8), confidence=np.zeros(shape, np.uint8))
    ids = placement.crop(top.ids.transpose(1, 2, 0))
    probabilities = placement.crop(top.probabilities.transpose(1, 2, 0))
    rows, columns = Axis.between(placement.height, shape[0]), Axis.between(placement.width, shape[1])
    for strip in strips(*shape):
        covered = rows[strip].covered
        best, label = _best_class(ids[covered], probabilities[covered], rows[strip], columns)
        found.mask[strip] = label
        found.confidence[strip] = np.rint(best, out=best)
    return found


def enlarge_maps(maps_K: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
    """Maps of the canvas (K, H', W') float32 at the image's own size (K, H, W), bilinearly."""
    rows = Axis.between(placement.height, placement.image_height)
    columns = Axis.between(placement.width, placement.image_width)
    return np.stack([rows.interpolate(columns.interpolate(placement.crop(one), 1), 0) for one in maps_K])


def strips(height: int, width: int) -> Iterator[slice]:
    """Yields slices of image rows, small enough for their pixels to stay in the processor's cache."""
    step = max(1, STRIP_PIXELS // width)
    return (slice(start, min(start + step, height)) for start in range(0, height, step))


def _best_class(
    ids: NDArray[np.uint8], probabilities: NDArray[np.uint8], rows: Axis, columns: Axis
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Largest probability, times 255, and its class, each (rows, W), from the network pixels of these rows (n, w,
    T)."""
    shape = len(rows.low), len(columns.low)
    best, label = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    for class_id in np.unique(ids[probabilities > 0]).tolist():
        plane = class_plane(ids, probabilities, class_id)
        present = np.flatnonzero(plane.any(axis=0))
        part = columns.covering(present[0], present[-1])
        value = rows.interpolate(columns[part].interpolate(plane, 1), 0, rows.covered.start)
        better = value > best[:, part]
        np.copyto(best[:, part], value, where=better)
        np.copyto(label[:, part], np.uint8(class_id), where=better)
    return best, label


def class_plane(ids: NDArray[np.uint8], probabilities: NDArray[np.uint8], class_id: int) -> NDArray[np.float32]:
    """One class's probability, float32 times 255, from top classes with last axis T; 0 where it is not among them."""
    return np.where(ids == class_id, probabilities, np.uint8(0)).sum(axis=-1, dtype=np.float32)
