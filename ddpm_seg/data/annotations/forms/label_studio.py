"""Reads the masks that people painted or drew, with the brush or as polygons, from Label Studio's JSON export."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, RootModel

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError, MaskError
from ddpm_seg.data.annotations.forms.brush_rle import decode_brush
from ddpm_seg.data.annotations.forms.drawing import paint, polygon_runs
from ddpm_seg.data.annotations.forms.json_file import checked
from ddpm_seg.data.annotations.image_places import ImagePlaces
from ddpm_seg.data.annotations.pair import UNCOVERED, Pair, check_size, class_id_of
from ddpm_seg.data.decoding.formats import EXTENSIONS
from ddpm_seg.tasks import Task

logger = logging.getLogger(__name__)

# Types of regions that mark an object. Those that are not drawn raise an error: leaving them out would lose an object.
DRAWN = ("brushlabels", "polygonlabels")
SHAPES = ("brush", "polygon", "rectangle", "ellipse", "keypoint", "vector", "bitmask")

Region = dict[str, Any]


class _Annotation(BaseModel):
    result: list[Region] | None = None
    was_cancelled: bool | None = None
    updated_at: Any = None


class _Task(BaseModel):
    id: Any = None
    data: dict[str, Any]
    annotations: list[_Annotation] | None = None


class _Tasks(RootModel[list[_Task]]):
    pass


def is_label_studio(content: object) -> bool:
    """Whether this JSON is a list, as in Label Studio's exports; COCO's is an object."""
    return isinstance(content, list)


def label_studio_pairs(uri: str, content: object, task: Task, image_root: str | None = None) -> list[Pair]:
    """Pairs for the tasks that someone has painted on, from the latest annotation that was not cancelled.

    Labels of brush strokes and polygons are matched to classes of `task` by name. Where regions overlap, the later one
    in the list, painted last, is in front. The image is `uri` in the task's data, as `jobs.export` writes it, else its
    `image`, else the only value that has an image's extension. Tasks without a painted region, and results that are
    not regions (choices, text), are left out and counted.
    """
    tasks = checked(uri, content, _Tasks, "Label Studio's JSON (a list of tasks with data and annotations)").root
    ids, left_out, places, pairs = task.ids, Counter[str](), ImagePlaces(uri, image_root), []
    for number, one in enumerate(tasks):
        done = [each for each in one.annotations or () if not each.was_cancelled]
        result = max(done, key=lambda each: str(each.updated_at or "")).result or [] if done else []
        regions = [region for region in result if _is_region(region)]
        left_out["polygons of fewer than three points"] += sum(map(_is_line, regions))
        left_out["results that are not regions"] += len(result) - len(regions)
        if not regions:
            left_out["tasks without a painted region"] += 1
            continue
        pairs.append(_pair(uri, one, number, partial(_draw, regions, ids, task), places))
    for what, count in left_out.items():
        if count:
            logger.warning("%s: %d %s are left out", storage.redact(uri), count, what)
    if not pairs:
        raise AnnotationError(f"{storage.redact(uri)} holds {len(tasks)} tasks, none of them annotated by a person")
    return sorted(pairs, key=lambda pair: pair.image)


def _pair(uri: str, one: _Task, number: int, read_mask: Any, places: ImagePlaces) -> Pair:
    name = f"{storage.redact(uri)}, task {number if one.id is None else one.id}"
    image = _image_of(one.data)
    if image is None:
        raise AnnotationError(f"{name} has neither uri nor image in its data")
    # Label Studio puts eight digits before an uploaded file's name.
    uploaded = image.rpartition("/")[2].partition("-")[2] if image.startswith("/data/upload/") else ""
    return places.pair([image, *([uploaded] if uploaded else [])], name, read_mask, drawn=True)


def _image_of(data: Mapping[str, Any]) -> str | None:
    for key in ("uri", "image"):
        if isinstance(data.get(key), str) and data[key]:
            return data[key]
    named = [value for value in data.values() if isinstance(value, str) and value.lower().endswith(tuple(EXTENSIONS))]
    return named[0] if len(named) == 1 else None


def _is_region(region: Region) -> bool:
    return str(region.get("type", "")).startswith(SHAPES)


def _is_line(region: Region) -> bool:
    points = region["value"].get("points") if isinstance(region.get("value"), dict) else None
    return region.get("type") == "polygonlabels" and isinstance(points, list) and len(points) < 3


def _draw(regions: list[Region], ids: Mapping[str, int], task: Task, height: int, width: int) -> NDArray[np.int16]:
    label: NDArray[np.int16] | None = None
    for region in regions:
        kind = region.get("type")
        if kind not in DRAWN:
            raise MaskError(f"holds a region of type {kind!r}, expected only {' or '.join(DRAWN)}")
        try:
            shape = int(region["original_height"]), int(region["original_width"])
            check_size(*shape, height, width)
            (name,), pixels = region["value"][kind], _pixels(kind, region["value"], *shape)
        except MaskError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise MaskError(f"holds a region that cannot be drawn ({type(error).__name__}: {error})") from error
        class_id = class_id_of(name, ids, task)
        label = np.full(shape, UNCOVERED, np.int16) if label is None else label
        if pixels.shape != label.shape:
            raise MaskError(f"holds regions of {label.shape} and {pixels.shape} pixels (height, width)")
        label[pixels] = class_id
    assert label is not None  # there is at least one region
    return label


def _pixels(kind: str, value: Mapping[str, Any], height: int, width: int) -> NDArray[np.bool_]:
    """The pixels (H, W) of a region. The points of a polygon are in percent of the image's width and height."""
    if kind == "brushlabels":
        return decode_brush(value["rle"], height, width)
    outline = [share * side / 100 for x, y in value["points"] for share, side in ((x, width), (y, height))]
    return paint([(polygon_runs([outline], height, width), 1)], (), height, width) == 1
