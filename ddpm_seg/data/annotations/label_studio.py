"""Corrected masks from Label Studio: its JSON export, with what people painted with the brush."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from ddpm_seg import storage
from ddpm_seg.data.annotations.brush_rle import decode_brush
from ddpm_seg.data.annotations.mask_files import MaskError
from ddpm_seg.data.annotations.pair import AnnotationError, Pair, image_pair
from ddpm_seg.tasks import UNLABELLED, Task

Json = dict[str, Any]


def is_label_studio(content: object) -> bool:
    """Whether this JSON is a list of tasks, as Label Studio exports them (COCO's is an object)."""
    return isinstance(content, list) and all(isinstance(one, dict) and "data" in one for one in content)


def label_studio_pairs(uri: str, content: list[Json], task: Task) -> list[Pair]:
    """Pairs of the tasks that somebody has annotated, by the latest annotation that was not cancelled.

    Brush labels are classes of `task` by name; pixels without are unlabelled. Where regions overlap, the later one in
    the list is in front: what was painted last. The image is `uri` of the task's data, as `jobs.export` writes it, or
    else its `image`.
    """
    ids = {name: index for index, name in enumerate(task.class_names)}
    pairs = []
    for one in content:
        done = [each for each in one.get("annotations", []) if not each.get("was_cancelled")]
        if not done:
            continue
        image = one["data"].get("uri") or one["data"].get("image")
        if not image:
            raise AnnotationError(f"{storage.redact(uri)}, task {one.get('id')} has neither uri nor image in its data")
        latest = max(done, key=lambda each: str(each.get("updated_at", "")))
        name = f"{storage.redact(uri)}, task {one.get('id', storage.redact(image))}"
        pairs.append(image_pair(image, name, partial(_draw, latest["result"], ids, task)))
    if not pairs:
        raise AnnotationError(f"{storage.redact(uri)} holds {len(content)} tasks, none of them annotated by a person")
    return sorted(pairs, key=lambda pair: pair.image)


def _draw(result: list[Json], ids: Mapping[str, int], task: Task) -> np.ndarray:
    label: np.ndarray | None = None
    for region in result:
        if region.get("type") != "brushlabels":
            raise MaskError(f"holds a region of type {region.get('type')!r}, expected brushlabels alone")
        try:
            shape = region["original_height"], region["original_width"]
            (name,), pixels = region["value"]["brushlabels"], decode_brush(region["value"]["rle"], *shape)
        except (KeyError, TypeError, ValueError) as error:
            raise MaskError(f"holds a region that cannot be drawn ({type(error).__name__}: {error})") from error
        if name not in ids:
            raise MaskError(f"has the label {name!r}, which {task.name} does not have: {', '.join(task.class_names)}")
        label = np.full(shape, UNLABELLED, np.uint8) if label is None else label
        label[pixels] = ids[name]
    if label is None:
        raise MaskError("holds no region")
    return label
