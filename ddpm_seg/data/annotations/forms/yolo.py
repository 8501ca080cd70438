"""Reads datasets in the form that YOLO's segmentation models train on: a text file of polygons for each image."""

# Shapes: masks of H x W pixels.

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError, MaskError
from ddpm_seg.data.annotations.forms.drawing import Box, paint, polygon_runs
from ddpm_seg.data.annotations.forms.mask_folders import renamed_folder
from ddpm_seg.data.annotations.pair import Pair, class_id_of, image_pair
from ddpm_seg.data.inputs.sources import is_image_name
from ddpm_seg.tasks import Task
from ddpm_seg.yaml_files import read_yaml

logger = logging.getLogger(__name__)

NAMES_FILES = ("data.yaml", "dataset.yaml")
MAX_BYTES = 2**26
IMAGES, LABELS = "images", "labels"


@dataclass(frozen=True, slots=True)
class _Object:
    label: str
    points: NDArray[np.float64]
    """(N, 2): x and y as shares of the image's width and height. Of a box, its centre and its size."""

    @property
    def is_box(self) -> bool:
        return len(self.points) == 2


def yolo_pairs(uri: str, files: Sequence[str], task: Task) -> list[Pair]:
    """The pairs of `images/…/X.jpg` and `labels/…/X.txt` among `files`, all those at `uri`; none without such files.

    `uri` is the dataset's folder, one split's (`valid/`), or one split's images (`images/val/`). Classes are matched by
    the names in `data.yaml`, which may be in a folder above, else by their numbers. Later objects are in front. The
    pixels of boxes have no class. Images without a text file are left out and counted.
    """
    label_of = {file: _label_file(file) for file in files if is_image_name(file)}
    there = {*files, *_labels_beside(uri)}
    found = {image: label for image, label in label_of.items() if label in there}
    if not found:
        return []
    if bare := len(label_of) - len(found):
        logger.warning("%s: %d images without a text file are left out", storage.redact(uri), bare)
    names = _names(uri)
    drawn = {image: list(_objects(label, names)) for image, label in found.items()}
    if boxes := sum(one.is_box for objects in drawn.values() for one in objects):
        logger.warning("%s: %d boxes are left out (their pixels have no class)", storage.redact(uri), boxes)
    if all(one.is_box for objects in drawn.values() for one in objects):
        raise AnnotationError(f"the {len(found)} text files in {storage.redact(uri)} hold no polygons")
    ids = task.ids if names else _ids_by_number(task)
    return [
        image_pair(image, storage.redact(found[image]), partial(_draw, objects, ids, task), drawn=True)
        for image, objects in drawn.items()
    ]


def _label_file(image: str) -> str | None:
    """The text file of an image in a folder `images`; the last one of that name counts."""
    beside = renamed_folder(image, (IMAGES,), LABELS)
    return f"{beside.rpartition('.')[0]}.txt" if beside else None


def _labels_beside(uri: str) -> Iterator[str]:
    """The text files for a folder of images, which lie in another folder."""
    if folder := renamed_folder(uri, (IMAGES,), LABELS):
        yield from (file.uri for file in storage.list_files(folder))


def _ids_by_number(task: Task) -> dict[str, int]:
    merged = task.mask_ids or {number: number for number in range(task.num_classes)}
    return {str(number): class_id for number, class_id in merged.items()}


def _names(uri: str) -> dict[str, str]:
    """Class name by number, from the nearest `data.yaml` in the folder or the two above it; empty without one. A folder
    above may belong to others and be closed."""
    scheme, separator, path = uri.rpartition("://")
    above = [path, path.rpartition("/")[0], "/".join(path.split("/")[:-2])]
    folders = [f"{scheme}{separator}{folder}" for folder in above if folder]
    for place in (storage.join(folder, name) for folder in folders for name in NAMES_FILES):
        try:
            data = storage.read_bytes(place, max_bytes=MAX_BYTES)
        except FileNotFoundError:
            continue
        except PermissionError:
            if place.startswith(f"{uri}/"):
                raise
            continue
        return _names_in(storage.redact(place), data)
    return {}


def _names_in(name: str, data: bytes) -> dict[str, str]:
    try:
        _, content = read_yaml(data)  # as written: YAML would turn the class `no` into false
    except ValueError as error:
        raise AnnotationError(f"{name}: {error}") from None
    names = content.get("names") if isinstance(content, Mapping) else None
    if isinstance(names, list):
        names = {str(number): one for number, one in enumerate(names)}
    if not isinstance(names, dict) or not all(isinstance(one, str) for one in names.values()):
        raise AnnotationError(f"{name}: expected names, a list of the classes' names or a name for each number")
    return names


def _objects(uri: str, names: Mapping[str, str]) -> Iterator[_Object]:
    """The objects in a text file: in each line a class's number, and x and y of each corner; or a box's centre and
    size."""
    lines = storage.read_bytes(uri, max_bytes=MAX_BYTES).decode(errors="replace").splitlines()
    for line_number, words in enumerate(map(str.split, lines), 1):
        if not words:
            continue
        where = f"{storage.redact(uri)}, line {line_number}"
        try:
            numbers = np.array([float(word) for word in words[1:]])
        except ValueError:
            numbers = np.array([np.nan])
        if not np.isfinite(numbers).all() or len(numbers) % 2 or len(numbers) < 4:
            raise AnnotationError(
                f"{where}: expected a class's number, and x and y of at least three corners, got "
                f"{' '.join(words)[:60]!r}"
            )
        if names and words[0] not in names:
            raise AnnotationError(f"{where}: the class {words[0][:20]!r}, which the dataset's YAML file does not name")
        yield _Object(names.get(words[0], words[0]), numbers.reshape(-1, 2))


def _draw(
    objects: Sequence[_Object], ids: Mapping[str, int], task: Task, image_height: int, image_width: int
) -> NDArray[np.int16]:
    size = np.array([image_width, image_height])
    boxes = [_box(one.points * size) for one in objects if one.is_box]
    shapes = (
        (
            polygon_runs([(one.points * size).ravel().tolist()], image_height, image_width),
            class_id_of(one.label, ids, task),
        )
        for one in objects
        if not one.is_box
    )
    return paint(shapes, boxes, image_height, image_width)


def _box(points: NDArray[np.float64]) -> Box:
    (x, y), (width, height) = points.tolist()
    if not 0 <= width < 1e9 or not 0 <= height < 1e9 or abs(x) > 1e9 or abs(y) > 1e9:
        raise MaskError(f"holds a box of {width:g} x {height:g} pixels at ({x:g}, {y:g})")
    return x - width / 2, y - height / 2, width, height
