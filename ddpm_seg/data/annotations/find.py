"""Which annotated images a URI stands for: files beside each other, two folders, a Parquet table, or a tool's JSON."""

from __future__ import annotations

import json

from ddpm_seg import storage
from ddpm_seg.data.annotations.coco import coco_pairs
from ddpm_seg.data.annotations.files import pairs_of_files
from ddpm_seg.data.annotations.label_studio import is_label_studio, label_studio_pairs
from ddpm_seg.data.annotations.pair import AnnotationError, Pair
from ddpm_seg.data.annotations.table import pairs_of_table
from ddpm_seg.tasks import Task


def find_pairs(uri: str, task: Task) -> list[Pair]:
    """Every annotated image that `uri` stands for, sorted by URI.

    * a folder or prefix: `X.png` (or .jpg, ...) beside `X.npy`, as published; or a folder `images/` with `X.jpg` and a
      folder `masks/` with `X.png` or `X.npy`;
    * a `.parquet` file: rows of `uri` or an `image` struct, and a `mask` struct, such as our `labels`;
    * a `.json` file: COCO, panoptic or with polygons or run lengths, or Label Studio's export of brush labels; their
      categories and labels are classes by name.

    Raises `AnnotationError` where there are none or a partner is missing.
    """
    uri = storage.normalize(uri)
    if uri.lower().endswith(".parquet"):
        return pairs_of_table(uri, task)
    if uri.lower().endswith(".json"):
        return _pairs_of_json(uri, task)
    return pairs_of_files(uri, task)


def _pairs_of_json(uri: str, task: Task) -> list[Pair]:
    try:
        content = json.loads(storage.read_bytes(uri))
    except ValueError as error:
        raise AnnotationError(f"{storage.redact(uri)} is not JSON ({error})") from None
    return label_studio_pairs(uri, content, task) if is_label_studio(content) else coco_pairs(uri, content, task)
