"""Reads COCO's JSON (cocodataset.org/#format-data): panoptic PNGs, or objects as polygons or run lengths."""

from __future__ import annotations

import logging
from collections import defaultdict
from contextlib import suppress
from functools import partial
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BaseModel

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError, MaskError
from ddpm_seg.data.annotations.forms.drawing import box_of, coco_runs, has_no_area, paint, polygon_runs
from ddpm_seg.data.annotations.forms.json_file import checked
from ddpm_seg.data.annotations.forms.mask_files import MAX_MASK_BYTES, read_colors
from ddpm_seg.data.annotations.image_places import ImagePlaces
from ddpm_seg.data.annotations.pair import UNCOVERED, Pair, check_size
from ddpm_seg.data.inputs.entries import spellings
from ddpm_seg.tasks import Task

logger = logging.getLogger(__name__)

# Some tools write an id as a number in one place and as text in another.
Id = Annotated[int | str, AfterValidator(str)]


class _Image(BaseModel):
    id: Id
    file_name: str
    height: int | None = None
    width: int | None = None
    path: str | None = None


class _Segment(BaseModel):
    id: int
    category_id: Id


class _Annotation(BaseModel):
    """An object, or the segments of an image. The outline is checked when it is drawn."""

    image_id: Id
    category_id: Id | None = None
    segmentation: Any = None
    bbox: Any = None
    file_name: str | None = None
    segments_info: list[_Segment] | None = None


class _Category(BaseModel):
    id: Id
    name: str


class _Coco(BaseModel):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def coco_pairs(uri: str, content: object, task: Task, image_root: str | None = None) -> list[Pair]:
    """Pairs for all images with annotations in `content`, the JSON at `uri`.

    Categories are matched to classes of `task` by name; a category without a class is allowed if no object uses it.
    Images are found by `file_name` and `path` (`ImagePlaces`), panoptic PNGs in a folder named like the JSON. Smaller
    objects are drawn over larger ones. Objects without an outline are left out and counted; pixels in their boxes get
    no class.
    """
    coco = checked(uri, content, _Coco, "COCO's JSON (an object with images, annotations and categories)")
    _refuse_repeated(uri, coco)
    class_of = _classes(uri, coco, task)
    annotations: dict[Id, list[_Annotation]] = defaultdict(list)
    for annotation in coco.annotations:
        annotations[annotation.image_id].append(annotation)
    _say_what_is_left_out(uri, coco)
    places, pairs = ImagePlaces(uri, image_root), []
    for image in sorted(coco.images, key=lambda image: image.file_name):
        if own := annotations.get(image.id):
            pairs.append(_pair(uri, image, own, class_of, places))
    if not pairs:
        raise AnnotationError(f"{storage.redact(uri)} holds no annotated images")
    return pairs


def _pair(uri: str, image: _Image, own: list[_Annotation], class_of: dict[Id, int], places: ImagePlaces) -> Pair:
    name = f"{storage.redact(uri)}, {image.file_name}"
    names = [image.file_name, *([image.path] if image.path else [])]
    if any(annotation.segments_info is not None for annotation in own):
        return places.pair(names, name, partial(_read_panoptic, uri, own, class_of), drawn=True)
    return places.pair(names, name, partial(_draw, own, image, class_of), drawn=True)


def _refuse_repeated(uri: str, coco: _Coco) -> None:
    for kind, entries in (("images", coco.images), ("categories", coco.categories)):
        ids = [entry.id for entry in entries]
        if len(set(ids)) < len(ids):
            twice = next(one for one in ids if ids.count(one) > 1)
            raise AnnotationError(f"{storage.redact(uri)} has two {kind} with the id {twice}")


def _classes(uri: str, coco: _Coco, task: Task) -> dict[Id, int]:
    """Class id by category id, for the categories that are classes of the task."""
    used = {annotation.category_id for annotation in coco.annotations}
    used |= {segment.category_id for annotation in coco.annotations for segment in annotation.segments_info or ()}
    ids = task.ids
    strange = [category.name for category in coco.categories if category.name not in ids and category.id in used]
    if strange:
        raise AnnotationError(
            f"{storage.redact(uri)} has objects in categories that {task.name} does not have: "
            f"{', '.join(strange[:5])}{', ...' if len(strange) > 5 else ''}; "
            f"expected some of {', '.join(ids)}. To count categories as parts of a class, name them under merge: in "
            "the task file"
        )
    return {category.id: ids[category.name] for category in coco.categories if category.name in ids}


def _say_what_is_left_out(uri: str, coco: _Coco) -> None:
    known = {image.id for image in coco.images}
    annotated = {annotation.image_id for annotation in coco.annotations}
    stray = sum(annotation.image_id not in known for annotation in coco.annotations)
    bare = sum(
        annotation.segments_info is None and not _has_outline(annotation.segmentation)
        for annotation in coco.annotations
    )
    lines = sum(_lines_beside_outlines(annotation.segmentation) for annotation in coco.annotations)
    for count, what in (
        (len(known - annotated), "images without annotations"),
        (stray, "annotations of images that are not in the file"),
        (bare, "objects without an outline (the pixels in their boxes have no class)"),
        (lines, "parts of objects with fewer than three points"),
    ):
        if count:
            logger.warning("%s: %d %s are left out", storage.redact(uri), count, what)


def _has_outline(segmentation: Any) -> bool:
    if not isinstance(segmentation, list):
        return bool(segmentation)
    return not all(map(has_no_area, _polygons(segmentation)))


def _lines_beside_outlines(segmentation: Any) -> int:
    """How many polygons of an object cannot be drawn, of one that has others."""
    if not isinstance(segmentation, list) or not _has_outline(segmentation):
        return 0
    return sum(bool(polygon) and has_no_area(polygon) for polygon in _polygons(segmentation))


def _polygons(segmentation: list[Any]) -> list[Any]:
    """Polygons `[x, y, x, y, ...]` of COCO's list of them, or of one alone, which may be a list of points `[x, y]`."""
    if not segmentation or not isinstance(segmentation[0], list):
        return [segmentation]
    if all(isinstance(point, list) and len(point) == 2 for point in segmentation):
        return [[value for point in segmentation for value in point]]
    return segmentation


def _read_panoptic(
    uri: str, own: list[_Annotation], class_of: dict[Id, int], image_height: int, image_width: int
) -> NDArray[np.int16]:
    """Class ids from a panoptic PNG: a segment's id is its colour, R + 256 G + 65536 B; 0 is no segment."""
    if len(own) > 1 or own[0].file_name is None or own[0].segments_info is None:
        raise MaskError("has panoptic annotations without file_name, or more than one; expected one with file_name")
    name = own[0].file_name.replace("\\", "/")
    if not name.lower().endswith(".png") or ".." in name.split("/"):
        raise MaskError(f"names the file {name!r}; expected a PNG in the folder named as the JSON")
    png = storage.join(uri[: -len(".json")], name)
    segments = read_colors(_read_spelled(png), image_height, image_width).astype(np.int64) @ [1, 256, 65536]
    found, where = np.unique(segments, return_inverse=True)
    classes = {segment.id: class_of.get(segment.category_id, -1) for segment in own[0].segments_info}
    if strange := [segment for segment in found.tolist() if segment and classes.get(segment, -1) < 0]:
        raise MaskError(f"holds segments without a known category: {strange[:3]} in {storage.redact(png)}")
    ids = [UNCOVERED if segment == 0 else classes[segment] for segment in found.tolist()]
    return np.array(ids, np.int16)[where].reshape(segments.shape)


def _read_spelled(uri: str) -> bytes:
    *likelier, last = spellings(uri)
    for spelling in likelier:
        with suppress(FileNotFoundError):
            return storage.read_bytes(spelling, max_bytes=MAX_MASK_BYTES)
    return storage.read_bytes(last, max_bytes=MAX_MASK_BYTES)


def _draw(
    own: list[_Annotation], image: _Image, class_of: dict[Id, int], image_height: int, image_width: int
) -> NDArray[np.int16]:
    height, width = image.height or image_height, image.width or image_width
    check_size(height, width, image_height, image_width)
    drawn, boxes = [], []
    for annotation in own:
        if not _has_outline(annotation.segmentation):
            boxes += [box] if (box := box_of(annotation.bbox)) else []
            continue
        if annotation.category_id not in class_of:
            raise MaskError(f"holds an object of the unknown category {annotation.category_id}")
        drawn.append((_runs(annotation.segmentation, height, width), class_of[annotation.category_id]))
    return paint(sorted(drawn, key=lambda one: -int(one[0][1::2].sum())), boxes, height, width)


def _runs(segmentation: Any, height: int, width: int) -> NDArray[np.int64]:
    if isinstance(segmentation, dict):
        return coco_runs(segmentation, height, width)
    if not isinstance(segmentation, list):
        raise MaskError(
            f"holds an object whose segmentation is {type(segmentation).__name__}, expected polygons or run lengths"
        )
    return polygon_runs(_polygons(segmentation), height, width)
