"""Exports to COCO's JSON (cocodataset.org/#format-data): one run-length mask per image and class."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ddpm_seg import storage
from ddpm_seg.data.exports.picture import Picture
from ddpm_seg.json_text import to_json
from ddpm_seg.tasks import Task


def write_coco(pictures: Iterable[Picture], task: Task, output: str) -> None:
    """Writes `annotations.json` beside `images/`. Category ids are class ids + 1, as tools take 0 for the background.

    Images get the extra fields `uncertainty` and `uri`. Raises ValueError if pycocotools is not installed.
    """
    try:
        from pycocotools import mask as codec
    except ImportError:
        raise ValueError("--to coco needs pycocotools: pip install -e '.[coco]'") from None
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, picture in enumerate(pictures, 1):
        picture.write_image(storage.join(output, "images"))
        height, width = picture.mask.shape
        own = {"id": image_id, "file_name": picture.file_name, "height": height, "width": width}
        images.append({**own, "uri": picture.uri, "uncertainty": picture.uncertainty})
        for class_id, pixels in picture.classes():
            runs = codec.encode(np.asfortranarray(pixels, np.uint8))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": class_id + 1,
                    "segmentation": {"size": runs["size"], "counts": runs["counts"].decode()},
                    "area": int(pixels.sum()),
                    "bbox": codec.toBbox(runs).tolist(),
                    "iscrowd": 0,
                }
            )
    content = {
        "info": {"description": f"ddpm_seg, {task.name}"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": class_id + 1, "name": name} for class_id, name in enumerate(task.class_names)],
    }
    storage.write_bytes(storage.join(output, "annotations.json"), to_json(content))
