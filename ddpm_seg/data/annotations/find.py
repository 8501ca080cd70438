"""Finds the annotated images at a URI, whatever the format: files, a Parquet table, or another tool's file."""

from __future__ import annotations

import re

from ddpm_seg import storage
from ddpm_seg.data.annotations.files import pairs_of_files
from ddpm_seg.data.annotations.forms.coco import coco_pairs
from ddpm_seg.data.annotations.forms.cvat import cvat_pairs
from ddpm_seg.data.annotations.forms.json_file import read_json
from ddpm_seg.data.annotations.forms.label_studio import is_label_studio, label_studio_pairs
from ddpm_seg.data.annotations.forms.table import pairs_of_table
from ddpm_seg.data.annotations.forms.tar import pairs_of_tar
from ddpm_seg.data.annotations.pair import Pair, refuse_twice
from ddpm_seg.data.decoding.formats import EXTENSIONS
from ddpm_seg.data.inputs.hidden import is_hidden_below
from ddpm_seg.data.inputs.listing import files_named
from ddpm_seg.data.inputs.sources import kind_name
from ddpm_seg.tasks import Task

_PATTERN = re.compile(r"[*?\[{]")
_ONE_FILE = (".json", ".xml", ".parquet", ".tar", ".tar.gz", ".tgz")


def find_pairs(uri: str, task: Task, image_root: str | None = None) -> list[Pair]:
    """All annotated images at `uri`, sorted by URI.

    * a folder or prefix: `X.png` (or .jpg, ...) beside `X.npy`, as published; or a folder `images/` with `X.jpg` and a
      folder `masks/` with `X.png` or `X.npy`;
    * a `.parquet` file: rows with `uri` or `image`, and `mask`, such as our `labels`;
    * a `.json` file: COCO (panoptic, polygons or run lengths), or Label Studio's export of brush labels;
    * an `.xml` file: CVAT for images.

    * a `.tar`, or several: `X.jpg` and `X.mask.png` (see `pairs_of_tar`), also as `ddpm-seg export --to webdataset`
      writes them.

    Folders of tables or tars without image files, and patterns (`{00000..00009}.tar`), are the pairs of all of them.
    In JSON and XML, categories and labels are matched to classes by name; images are looked for nearby, or below
    `image_root`. Raises AnnotationError if there are none, a partner is missing, or an image has two masks.
    """
    uri = storage.normalize(uri)
    pairs = _pairs(uri, task, image_root)
    refuse_twice(uri, pairs)
    return pairs


def _pairs(uri: str, task: Task, image_root: str | None) -> list[Pair]:
    suffix = "" if _is_folder(uri) else uri.lower().rpartition(".")[2]
    if suffix == "xml":
        return cvat_pairs(uri, task, image_root)
    if suffix == "json":
        content = read_json(uri)
        read = label_studio_pairs if is_label_studio(content) else coco_pairs
        return read(uri, content, task, image_root)
    is_one = storage.is_http(uri) or not _PATTERN.search(uri)
    is_table = suffix == "parquet" or (suffix != "" and kind_name(uri) == "tar")
    parts = [uri] if is_one and is_table else _containers(uri)
    found = []
    for part in parts:
        read_part = pairs_of_table if part.lower().endswith("parquet") else pairs_of_tar
        found += read_part(part, task, image_root)
    return found or pairs_of_files(uri, task)


def _is_folder(uri: str) -> bool:
    """Whether a name that ends like a file's is a folder's: Spark writes a table as `x.parquet/part-00000.parquet`."""
    if storage.is_http(uri) or _PATTERN.search(uri) or not uri.lower().endswith(_ONE_FILE):
        return False
    first = next(files_named(uri), None)
    return first is not None and first.uri.startswith(f"{uri}/")


def _containers(uri: str) -> list[str]:
    """The tars and tables that a folder or a pattern names, if it names no images or masks."""
    files = [file.uri for file in files_named(uri)]
    start = _PATTERN.split(uri)[0]
    folder = uri if start == uri else start.rpartition("/")[0]
    files = [file for file in files if not is_hidden_below(file, folder)]
    loose = (*EXTENSIONS, ".npy")
    if any(file.lower().endswith(loose) for file in files):
        return []
    return [file for file in files if kind_name(file) in ("tar", "parquet")]
