"""Finds the annotated images at a URI, whatever the format: files, a Parquet table, or another tool's file."""

from __future__ import annotations

from ddpm_seg import storage
from ddpm_seg.data.annotations.files import pairs_of_files
from ddpm_seg.data.annotations.forms.coco import coco_pairs
from ddpm_seg.data.annotations.forms.cvat import cvat_pairs
from ddpm_seg.data.annotations.forms.json_file import read_json
from ddpm_seg.data.annotations.forms.label_studio import is_label_studio, label_studio_pairs
from ddpm_seg.data.annotations.forms.table import pairs_of_table
from ddpm_seg.data.annotations.pair import Pair, refuse_twice
from ddpm_seg.tasks import Task


def find_pairs(uri: str, task: Task, image_root: str | None = None) -> list[Pair]:
    """All annotated images at `uri`, sorted by URI.

    * a folder or prefix: `X.png` (or .jpg, ...) beside `X.npy`, as published; or a folder `images/` with `X.jpg` and a
      folder `masks/` with `X.png` or `X.npy`;
    * a `.parquet` file: rows with `uri` or `image`, and `mask`, such as our `labels`;
    * a `.json` file: COCO (panoptic, polygons or run lengths), or Label Studio's export of brush labels;
    * an `.xml` file: CVAT for images.

    In the last two, categories and labels are matched to classes by name; images are looked for nearby, or below
    `image_root`. Raises AnnotationError if there are none, a partner is missing, or an image has two masks.
    """
    uri = storage.normalize(uri)
    pairs = _pairs(uri, task, image_root)
    refuse_twice(uri, pairs)
    return pairs


def _pairs(uri: str, task: Task, image_root: str | None) -> list[Pair]:
    suffix = uri.lower().rpartition(".")[2]
    if suffix == "parquet":
        return pairs_of_table(uri, task, image_root)
    if suffix == "xml":
        return cvat_pairs(uri, task, image_root)
    if suffix == "json":
        content = read_json(uri)
        read = label_studio_pairs if is_label_studio(content) else coco_pairs
        return read(uri, content, task, image_root)
    return pairs_of_files(uri, task)
