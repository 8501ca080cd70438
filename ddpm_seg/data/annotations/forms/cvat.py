"""Reads corrected masks from CVAT's XML export "CVAT for images 1.1"."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from functools import partial
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError, MaskError
from ddpm_seg.data.annotations.forms.drawing import Box, box_of, paint, polygon_runs, runs_of
from ddpm_seg.data.annotations.forms.json_file import MAX_JSON_BYTES
from ddpm_seg.data.annotations.image_places import ImagePlaces
from ddpm_seg.data.annotations.pair import Pair, check_size, class_id_of
from ddpm_seg.tasks import Task

logger = logging.getLogger(__name__)

DRAWN = ("mask", "polygon")
BOXES = ("box",)
"""Objects without a known outline."""


def cvat_pairs(uri: str, task: Task, image_root: str | None = None) -> list[Pair]:
    """Pairs for all images with masks or polygons in the XML at `uri`; labels are matched to classes of `task` by name.

    A higher z_order is in front, then what comes later in the file. Pixels in boxes get no class, as the object's
    outline is unknown. Images without masks or polygons, and other shapes, are left out and counted.
    """
    left_out, places, pairs = Counter[str](), ImagePlaces(uri, image_root), []
    for image in _images(uri):
        drawn = [shape for shape in image if shape.tag in DRAWN]
        left_out.update(f"shapes of kind {shape.tag}" for shape in image if shape.tag not in (*DRAWN, *BOXES, "tag"))
        if not drawn:
            left_out["images without masks or polygons"] += 1
            continue
        left_out["polygons of fewer than three points"] += sum(_is_line(shape) for shape in drawn)
        file_name = image.get("name")
        if not file_name:
            raise AnnotationError(f"{storage.redact(uri)} has an image without a name")
        name = f"{storage.redact(uri)}, {file_name}"
        pairs.append(places.pair([file_name], name, partial(_draw, image, task), drawn=True))
    for what, count in (+left_out).items():
        logger.warning("%s: %d %s are left out", storage.redact(uri), count, what)
    if not pairs:
        raise AnnotationError(f"{storage.redact(uri)} holds no annotated images: no masks or polygons")
    return sorted(pairs, key=lambda pair: pair.image)


def _images(uri: str) -> list[ElementTree.Element]:
    data = storage.read_bytes(uri, max_bytes=MAX_JSON_BYTES)
    if b"<!ENTITY" in data or b"<!DOCTYPE" in data:  # CVAT writes neither, and an attacker could use them
        raise AnnotationError(f"{storage.redact(uri)} has a document type or entities, which CVAT does not write")
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise AnnotationError(f"{storage.redact(uri)} is not XML ({error})") from None
    if root.tag != "annotations" or root.find("track") is not None:
        raise AnnotationError(f"{storage.redact(uri)} is not CVAT's XML for images; export as 'CVAT for images 1.1'")
    return root.findall("image")


def _draw(image: ElementTree.Element, task: Task, image_height: int, image_width: int) -> NDArray[np.int16]:
    height, width = (_integer(image, key) for key in ("height", "width"))
    check_size(height, width, image_height, image_width)
    shapes = sorted((one for one in image if one.tag in DRAWN), key=lambda one: _integer(one, "z_order", 0))
    return paint(_objects(shapes, task, height, width), _boxes(image), height, width)


def _objects(
    shapes: list[ElementTree.Element], task: Task, height: int, width: int
) -> Iterator[tuple[NDArray[np.int64], int]]:
    ids = task.ids
    for shape in shapes:
        class_id = class_id_of(shape.get("label", ""), ids, task)
        runs = _mask_runs(shape, height, width) if shape.tag == "mask" else _polygon_runs(shape, height, width)
        yield runs, class_id


def _boxes(image: ElementTree.Element) -> Iterator[Box]:
    for shape in image:
        if shape.tag in BOXES:
            left, top, right, bottom = (_number(shape.get(key, "")) for key in ("xtl", "ytl", "xbr", "ybr"))
            if box := box_of([left, top, right - left, bottom - top]):
                yield box


def _polygon_runs(shape: ElementTree.Element, height: int, width: int) -> NDArray[np.int64]:
    points = [part for point in shape.get("points", "").split(";") for part in point.split(",")]
    return polygon_runs([[_number(part) for part in points]], height, width)


def _is_line(shape: ElementTree.Element) -> bool:
    return shape.tag == "polygon" and len(shape.get("points", "").split(";")) < 3


def _mask_runs(shape: ElementTree.Element, height: int, width: int) -> NDArray[np.int64]:
    """Runs of a mask that is stored as its box and, row by row, the numbers of pixels outside, inside, outside, ..."""
    left, top, box_width, box_height = (_integer(shape, key) for key in ("left", "top", "width", "height"))
    if left < 0 or top < 0 or box_width < 1 or box_height < 1 or left + box_width > width or top + box_height > height:
        raise MaskError(
            f"holds a mask of {box_width} x {box_height} at ({left}, {top}), outside of its image of {width} x {height}"
        )
    try:
        counts = [int(count) for count in shape.get("rle", "").split(",")]
    except ValueError:
        raise MaskError(f"holds a mask whose rle is not a list of counts: {shape.get('rle', '')[:40]!r}") from None
    if min(counts) < 0 or sum(counts) > box_width * box_height:
        raise MaskError(f"holds a mask with runs of {sum(counts)} pixels in a box of {box_width} x {box_height}")
    counts += [box_width * box_height - sum(counts)] if len(counts) % 2 == 0 else []  # CVAT omits a last run outside
    if sum(counts) != box_width * box_height:
        raise MaskError(f"holds a mask with runs of {sum(counts)} pixels in a box of {box_width} x {box_height}")
    inside = np.zeros((height, width), bool, order="F")
    box = np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(box_height, box_width)
    inside[top : top + box_height, left : left + box_width] = box
    return runs_of(inside)


def _integer(element: ElementTree.Element, key: str, default: int | None = None) -> int:
    text = element.get(key)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise MaskError(f"has a {element.tag} whose {key} is {text!r}, expected an integer") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise MaskError(f"holds the coordinate {text!r}, expected a number") from None
