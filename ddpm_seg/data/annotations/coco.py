"""Annotations in COCO's JSON (cocodataset.org/#format-data): panoptic PNGs, or objects as polygons or run lengths."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from typing import Any

import numpy as np

from ddpm_seg import storage
from ddpm_seg.data.annotations.mask_files import MAX_MASK_BYTES, MaskError, read_colors
from ddpm_seg.data.annotations.pair import AnnotationError, Pair, image_pair
from ddpm_seg.tasks import UNLABELLED, Task

Json = dict[str, Any]

_KEYS = {"images": ("id", "file_name"), "annotations": ("image_id",), "categories": ("id", "name")}


def coco_pairs(uri: str, content: object, task: Task) -> list[Pair]:
    """Pairs of every image with annotations in `content`, the JSON at `uri`.

    Categories are classes of `task` by name; pixels without are unlabelled. Images are sought at their `file_name`
    beside the JSON or in a folder `images` there; panoptic PNGs in the folder named as the JSON. Of overlapping objects
    the smaller is in front.
    """
    parts = _parts(uri, content)
    class_of = _classes(uri, parts["categories"], task)
    panoptic = any("segments_info" in annotation for annotation in parts["annotations"])
    annotations: dict[int, list[Json]] = defaultdict(list)
    for annotation in parts["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    folder = uri.rpartition("/")[0]
    pairs = []
    for image in sorted(parts["images"], key=lambda image: str(image["file_name"])):
        if own := annotations.get(image["id"]):
            read_mask = (
                partial(_read_panoptic, storage.join(uri[: -len(".json")], own[0]["file_name"]), own[0], class_of)
                if panoptic
                else partial(_draw, own, image["height"], image["width"], class_of)
            )
            name = f"{storage.redact(uri)}, {image['file_name']}"
            pairs.append(image_pair(_image_uri(folder, image["file_name"]), name, read_mask))
    if not pairs:
        raise AnnotationError(f"{storage.redact(uri)} holds no annotated images")
    return pairs


def _parts(uri: str, content: Any) -> Json:
    try:
        parts = {name: list(content[name]) for name in _KEYS}
        missing = [key for name, keys in _KEYS.items() for entry in parts[name] for key in keys if key not in entry]
        if missing:
            raise KeyError(missing[0])
    except (ValueError, TypeError, KeyError) as error:
        raise AnnotationError(
            f"{storage.redact(uri)} is not COCO's JSON ({type(error).__name__}: {error}); "
            "expected images, annotations and categories"
        ) from None
    return parts


def _classes(uri: str, categories: list[Json], task: Task) -> dict[int, int]:
    """Class id by category id."""
    ids = {name: index for index, name in enumerate(task.class_names)}
    if strange := [category["name"] for category in categories if category["name"] not in ids]:
        raise AnnotationError(
            f"{storage.redact(uri)} has categories that {task.name} does not have: {', '.join(strange[:5])}"
            f"{', ...' if len(strange) > 5 else ''}; expected some of {', '.join(task.class_names)}"
        )
    return {category["id"]: ids[category["name"]] for category in categories}


def _image_uri(folder: str, file_name: str) -> str:
    beside = storage.join(folder, file_name)
    within = storage.join(folder, "images", file_name)
    return beside if storage.exists(beside) or not storage.exists(within) else within


def _read_panoptic(uri: str, annotation: Json, class_of: dict[int, int]) -> np.ndarray:
    """A segment's id is its colour, R + 256 G + 65536 B; 0 is unlabelled."""
    segments = read_colors(storage.read_bytes(uri, max_bytes=MAX_MASK_BYTES)).astype(np.int64) @ [1, 256, 65536]
    found, where = np.unique(segments, return_inverse=True)
    classes = {0: UNLABELLED} | {
        segment["id"]: class_of.get(segment["category_id"], -1) for segment in annotation["segments_info"]
    }
    if strange := [segment for segment in found.tolist() if classes.get(segment, -1) < 0]:
        raise MaskError(f"holds segments without a known category: {strange[:3]} in {storage.redact(uri)}")
    return np.array([classes[segment] for segment in found.tolist()])[where].reshape(segments.shape)


def _draw(annotations: list[Json], height: int, width: int, class_of: dict[int, int]) -> np.ndarray:
    try:
        from pycocotools import mask as codec
    except ImportError:
        raise MaskError("needs pycocotools to be read: pip install -e '.[coco]'") from None
    drawn = []
    for annotation in annotations:
        try:
            segmentation = annotation["segmentation"]
            if isinstance(segmentation, list):
                runs = codec.merge(codec.frPyObjects(segmentation, height, width))
            elif isinstance(segmentation["counts"], list):
                runs = codec.frPyObjects(segmentation, height, width)
            else:
                runs = segmentation
            drawn.append((codec.decode(runs).astype(bool), class_of[annotation["category_id"]]))
        except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
            raise MaskError(f"holds an object that cannot be drawn ({type(error).__name__}: {error})") from error
    label = np.full((height, width), UNLABELLED, np.uint8)
    for pixels, class_id in sorted(drawn, key=lambda one: -int(one[0].sum())):
        if pixels.shape != label.shape:
            raise MaskError(f"holds an object of {pixels.shape} pixels in an image of {label.shape}")
        label[pixels] = class_id
    return label
