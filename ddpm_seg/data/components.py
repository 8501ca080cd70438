"""Counts the connected parts of all classes in a mask of any size."""

# Shapes: H x W the mask, R rows of it in a band.

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

BAND_PIXELS = 2**22


def count_components(mask: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number of 4-connected parts of each class, (256,) int64, in a mask (H, W) uint8.

    Works in bands of rows, because what is known of each pixel takes ten times its memory: a gigabyte for 100
    megapixels.
    """
    height, width = mask.shape
    rows = max(1, BAND_PIXELS // width)
    counts = np.zeros(256, np.int64)
    above: NDArray[np.int64] = np.empty(0, np.int64)
    joints, parts = [], 0
    for start in range(0, height, rows):
        band = mask[start : start + rows]
        classes, first, last = _parts(band)
        counts += np.bincount(classes, minlength=256)
        if start > 0:
            touching = mask[start - 1] == band[0]
            joints.append(np.stack([above[touching], first[touching] + parts, band[0][touching]]))
        above, parts = last + parts, parts + len(classes)
    return counts - _merged(np.concatenate(joints, axis=1)) if joints else counts


def _parts(band: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """The class of each part of a band (R, W), and the numbers of the parts in its first and last row.

    Equal pixels that follow each other in a row are a run. Runs of one class that touch in neighbouring rows belong
    together; the leftmost column in which they touch is one where a run begins.
    """
    begins = np.ones(band.shape, bool)
    np.not_equal(band[:, 1:], band[:, :-1], out=begins[:, 1:])
    runs = np.cumsum(begins, dtype=np.int64).reshape(band.shape) - 1
    touching = (band[1:] == band[:-1]) & (begins[1:] | begins[:-1])
    part = _connected(runs[:-1][touching], runs[1:][touching], int(runs[-1, -1]) + 1)
    classes = np.empty(part.max() + 1, np.uint8)
    classes[part] = band[begins]
    return classes, part[runs[0]], part[runs[-1]]


def _merged(joints: NDArray[np.int64]) -> NDArray[np.int64]:
    """By how many each class's parts (256,) become fewer if those of each joint are one: two parts and their class."""
    nodes, ends = np.unique(joints[:2], return_inverse=True)
    one, other = ends.reshape(2, -1)
    classes = np.empty(len(nodes), np.int64)
    classes[one] = classes[other] = joints[2]
    group = _connected(one, other, len(nodes))
    grouped = np.empty(group.max() + 1, np.int64)
    grouped[group] = classes
    return np.bincount(classes, minlength=256) - np.bincount(grouped, minlength=256)


def _connected(one: NDArray[np.int64], other: NDArray[np.int64], nodes: int) -> NDArray[np.int64]:
    """For each of `nodes`, the number of its connected part; `one` and `other` are the ends of the edges."""
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(nodes, nodes))
    return connected_components(graph, directed=False)[1].astype(np.int64)
