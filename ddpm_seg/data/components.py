"""Counts the connected parts of a class in a mask of any size."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

BAND_PIXELS = 2**22


def count_components(mask: NDArray[np.uint8], class_id: int) -> int:
    """Number of 4-connected parts of class `class_id` in a mask (H, W) uint8.

    Works in bands of rows, because ndimage.label takes four bytes per pixel: 400 MB for 100 megapixels.
    """
    height, width = mask.shape
    rows = max(1, BAND_PIXELS // width)
    parts, joints = 0, []
    above: NDArray[np.int64] | None = None
    for start in range(0, height, rows):
        labels, number = ndimage.label(mask[start : start + rows] == class_id)
        below = _numbered(labels[0], parts)
        if above is not None:
            touching = (above > 0) & (below > 0)
            joints.append(np.stack([above[touching], below[touching]]))
        above = _numbered(labels[-1], parts)
        parts += number
    return parts - _merged(np.concatenate(joints, axis=1)) if joints else parts


def _numbered(row: NDArray[np.int32], before: int) -> NDArray[np.int64]:
    """A row of part numbers that count on after those of the bands before; 0 stays 0."""
    return np.where(row > 0, row.astype(np.int64) + before, 0)


def _merged(joints: NDArray[np.int64]) -> int:
    """By how many the number of parts falls if those of each pair (2, J) are one."""
    from scipy.sparse import coo_array  # only large masks need it
    from scipy.sparse.csgraph import connected_components

    nodes, ends = np.unique(joints, return_inverse=True)
    one, other = ends.reshape(joints.shape)
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(nodes), len(nodes)))
    return len(nodes) - int(connected_components(graph, directed=False)[0])
