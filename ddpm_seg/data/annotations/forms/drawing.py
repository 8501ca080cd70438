"""Draws objects into a mask: polygons and COCO's run lengths, checked first and painted over each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg.data.annotations.errors import MaskError
from ddpm_seg.data.annotations.pair import UNCOVERED
from ddpm_seg.tasks import UNLABELLED

# pycocotools takes five steps per pixel along an outline, about 16 bytes each.
LONGEST_OUTLINE = 10_000_000

Box = tuple[float, float, float, float]
"""Left, top, width and height, in pixels."""


def paint(
    objects: Iterable[tuple[NDArray[np.int64], int]], boxes: Iterable[Box], height: int, width: int
) -> NDArray[np.int16]:
    """Class ids (H, W) int16 of objects (runs from `polygon_runs`, class id), later ones in front.

    Pixels without an object are `UNCOVERED`. Pixels in `boxes`, whose objects have no known outline, have no class.
    """
    label = np.full((height, width), UNCOVERED, np.int16, order="F")
    for left, top, box_width, box_height in boxes:
        rows = slice(max(0, math.floor(top)), max(0, math.ceil(top + box_height)))
        label[rows, max(0, math.floor(left)) : max(0, math.ceil(left + box_width))] = UNLABELLED
    by_columns = label.reshape(-1, order="F")  # a view
    for runs, class_id in objects:
        by_columns[_positions(runs)] = class_id
    return label


def _positions(runs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Positions of the pixels inside the runs; as many as those pixels, so a small object in a large image is cheap."""
    ends = np.cumsum(runs)
    lengths, stops = runs[1::2], ends[1::2]
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(stops - lengths - before, lengths)


def runs_of(inside: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The pixels `inside` (H, W) as runs (see `polygon_runs`)."""
    flat = np.concatenate([[False], inside.reshape(-1, order="F")])
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff([0, *changes.tolist(), inside.size])


def box_of(values: Any) -> Box | None:
    """`[left, top, width, height]` as a box; None for anything else."""
    if not isinstance(values, list) or len(values) != 4 or not all(map(_is_number, values)):
        return None
    left, top, width, height = map(float, values)
    return left, top, width, height


def polygon_runs(polygons: Sequence[Any], height: int, width: int) -> NDArray[np.int64]:
    """The inside of any of the polygons `[x, y, x, y, ...]`, drawn as by pycocotools; nothing of one that
    `has_no_area`.

    Returns runs: int64 numbers of pixels outside, inside, outside, ... in column order, which add up to H W. Raises
    MaskError for coordinates that are not finite or far outside the image, which pycocotools would not check.
    """
    try:
        from pycocotools import mask as codec
    except ImportError:
        raise MaskError("needs pycocotools to be read: pip install -e '.[coco]'") from None
    outlines = [_outline(polygon, height, width) for polygon in polygons if polygon]
    outlines = [outline for outline in outlines if not has_no_area(outline)]
    if not outlines:
        return np.array([height * width])
    merged = codec.merge(codec.frPyObjects(outlines, height, width))
    return np.array(_counts_of_text(merged["counts"].decode()))


def has_no_area(polygon: Any) -> bool:
    """Whether these are fewer than three points, which pycocotools would take for a box. They are not drawn, so the
    reader of a format counts them."""
    return isinstance(polygon, list) and len(polygon) in (0, 2, 4) and all(map(_is_number, polygon))


def _outline(polygon: Any, height: int, width: int) -> list[float]:
    if not isinstance(polygon, list) or not all(map(_is_number, polygon)):
        raise MaskError(f"holds an outline that is not a list of finite numbers: {_short(polygon)}")
    if len(polygon) % 2:
        raise MaskError(f"holds an outline of {len(polygon)} numbers; expected x and y for each point")
    points = np.array(polygon, float).reshape(-1, 2)
    size = np.array([width, height])
    if len(points) and not ((points >= -size) & (points <= 2 * size)).all():
        far = points[((points < -size) | (points > 2 * size)).any(axis=1)][0]
        raise MaskError(f"holds an outline at ({far[0]:g}, {far[1]:g}), far outside of an image of {width} x {height}")
    steps = np.abs(points - np.roll(points, 1, axis=0)).max(axis=1, initial=0)
    if steps.sum() > LONGEST_OUTLINE:
        raise MaskError(f"holds an outline of {steps.sum():.0f} pixels; the limit is {LONGEST_OUTLINE}")
    return [float(value) for value in polygon]


def coco_runs(runs: dict[str, Any], height: int, width: int) -> NDArray[np.int64]:
    """COCO's `{"size": [H, W], "counts": ...}` as runs (see `polygon_runs`). Raises MaskError if invalid.

    `counts` is a list, or a text with 6 bits per letter. It is not decoded by pycocotools, which writes beyond its
    memory if runs are longer than the image.
    """
    size, counts = runs.get("size"), runs.get("counts")
    if size != [height, width]:
        raise MaskError(f"holds run lengths of size {_short(size)} (height, width), expected [{height}, {width}]")
    lengths = _counts_of_text(counts) if isinstance(counts, str) else counts
    if not isinstance(lengths, list) or not all(type(one) is int and one >= 0 for one in lengths):
        raise MaskError(f"holds run lengths that are neither a text nor a list of counts: {_short(counts)}")
    if sum(lengths) != height * width:
        raise MaskError(f"holds run lengths of {sum(lengths)} pixels in an image of {width} x {height}")
    return np.array(lengths)


def _counts_of_text(text: str) -> list[int]:
    """Decodes COCO's compressed counts. Each letter, counted from "0", holds 5 bits, lowest first, and a bit that says
    whether more follow; from the fourth number on, each is the difference from the one two before."""
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - ord("0")
        if not 0 <= bits < 64:
            raise MaskError(f"has an invalid character in its compressed COCO run lengths: {letter!r}")
        if shift > 60:
            raise MaskError("has a number in its compressed COCO run lengths that is too long")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (1 << shift) if bits & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise MaskError("holds run lengths that end within a number")
    return counts


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e12 and math.isfinite(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
