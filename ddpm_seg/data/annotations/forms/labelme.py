"""Reads LabelMe's files (github.com/wkentaro/labelme): a JSON for each image, with the outlines of its objects."""

from __future__ import annotations

import base64
import binascii
import logging
import math
from collections import Counter
from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import MaskError
from ddpm_seg.data.annotations.forms.drawing import Box, box_of, paint, polygon_runs, runs_of
from ddpm_seg.data.annotations.forms.json_file import checked
from ddpm_seg.data.annotations.forms.mask_files import read_colors
from ddpm_seg.data.annotations.image_places import ImagePlaces
from ddpm_seg.data.annotations.pair import Pair, check_size, class_id_of
from ddpm_seg.tasks import UNLABELLED, Task

logger = logging.getLogger(__name__)

DRAWN = ("polygon", "circle", "mask")
BOXES = ("rectangle", "oriented_rectangle")
"""Objects without a known outline."""
IGNORED = "__ignore__"
"""LabelMe's label for objects that have no class."""
CIRCLE_CORNERS = 90


class _Shape(BaseModel):
    label: str
    points: list[tuple[float, float]]
    shape_type: str | None = None
    mask: str | None = None

    @property
    def kind(self) -> str:
        return self.shape_type or "polygon"  # LabelMe 3 does not say

    @property
    def is_line(self) -> bool:
        return self.kind == "polygon" and len(self.points) < 3


class _File(BaseModel):
    imagePath: str  # noqa: N815  LabelMe's name
    imageHeight: int | None = None  # noqa: N815
    imageWidth: int | None = None  # noqa: N815
    shapes: list[_Shape]


def is_labelme(content: object) -> bool:
    return isinstance(content, dict) and "shapes" in content


def labelme_pairs(uri: str, content: object, task: Task, image_root: str | None = None) -> list[Pair]:
    """The pair of the image that `content`, the JSON at `uri`, is about; none if it has no polygons, circles or masks.

    Labels are matched to classes of `task` by name. Later shapes are in front. Pixels in rectangles get no class, as
    the object's outline is unknown, nor do those of the label `__ignore__`. Other shapes are left out and counted.
    """
    file = checked(uri, content, _File, "LabelMe's JSON (an object with imagePath and shapes)")
    left_out = Counter(f"shapes of kind {one.kind}" for one in file.shapes if one.kind not in (*DRAWN, *BOXES))
    left_out["rectangles (their pixels have no class)"] = sum(one.kind in BOXES for one in file.shapes)
    left_out["polygons of fewer than three points"] = sum(one.is_line for one in file.shapes)
    for what, count in (+left_out).items():
        logger.warning("%s: %d %s are left out", storage.redact(uri), count, what)
    if not any(one.kind in DRAWN for one in file.shapes):
        return []
    places = ImagePlaces(uri, image_root)
    return [places.pair([file.imagePath], storage.redact(uri), partial(_draw, file, task), drawn=True)]


def _draw(file: _File, task: Task, image_height: int, image_width: int) -> NDArray[np.int16]:
    height, width = file.imageHeight or image_height, file.imageWidth or image_width
    check_size(height, width, image_height, image_width)
    boxes = [_box(one) for one in file.shapes if one.kind in BOXES and one.points]
    return paint(_objects(file, task, height, width), boxes, height, width)


def _objects(file: _File, task: Task, height: int, width: int) -> Iterator[tuple[NDArray[np.int64], int]]:
    ids = {IGNORED: UNLABELLED, **task.ids}
    for shape in file.shapes:
        if shape.kind not in DRAWN:
            continue
        class_id = class_id_of(shape.label, ids, task)
        if shape.kind == "mask":
            runs = runs_of(_mask(shape, height, width))
        else:
            runs = polygon_runs([_circle(shape) if shape.kind == "circle" else _flat(shape.points)], height, width)
        yield runs, class_id


def _flat(points: list[tuple[float, float]]) -> list[float]:
    return [value for point in points for value in point]


def _circle(shape: _Shape) -> list[float]:
    """The outline of a circle, given as its centre and a point on it."""
    if len(shape.points) != 2:
        raise MaskError(f"holds a circle of {len(shape.points)} points, expected its centre and one on its edge")
    (x, y), edge = shape.points
    radius, turns = math.dist((x, y), edge), np.arange(CIRCLE_CORNERS) * (2 * math.pi / CIRCLE_CORNERS)
    return np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], axis=1).ravel().tolist()


def _box(shape: _Shape) -> Box:
    (left, top), (right, bottom) = np.min(shape.points, axis=0).tolist(), np.max(shape.points, axis=0).tolist()
    box = box_of([left, top, right - left, bottom - top])
    if box is None:
        raise MaskError("holds a rectangle whose corners are not finite numbers")
    return box


def _mask(shape: _Shape, height: int, width: int) -> NDArray[np.bool_]:
    """The pixels (H, W) of a mask: a PNG that covers a box of pixels, whose first and last are given."""
    if len(shape.points) != 2 or not np.isfinite(shape.points).all():
        raise MaskError("holds a mask whose points are not the first and the last pixel of its box")
    (left, top), (right, bottom) = ((round(x), round(y)) for x, y in shape.points)
    try:
        png = base64.b64decode(shape.mask or "", validate=True)
    except binascii.Error as error:
        raise MaskError(f"holds a mask that is not base64 ({error})") from None
    part = read_colors(png, bottom - top + 1, right - left + 1)[..., 0] > 0
    if left < 0 or top < 0 or top + part.shape[0] > height or left + part.shape[1] > width:
        raise MaskError(f"holds a mask at ({left}, {top}) that reaches beyond its image of {width} x {height}")
    inside = np.zeros((height, width), bool)
    inside[top : top + part.shape[0], left : left + part.shape[1]] = part
    return inside
