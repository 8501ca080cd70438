"""Finds the annotated images at a URI, whatever the format: files, a Parquet table, or another tool's file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.forms.coco import coco_pairs
from ddpm_seg.data.annotations.forms.cvat import cvat_pairs
from ddpm_seg.data.annotations.forms.json_file import read_json
from ddpm_seg.data.annotations.forms.label_studio import is_label_studio, label_studio_pairs
from ddpm_seg.data.annotations.forms.labelme import is_labelme, labelme_pairs
from ddpm_seg.data.annotations.forms.mask_folders import pairs_of_files
from ddpm_seg.data.annotations.forms.table import pairs_of_table
from ddpm_seg.data.annotations.forms.tar import pairs_of_tar
from ddpm_seg.data.annotations.forms.voc import folder_of_split, is_voc, voc_pairs
from ddpm_seg.data.annotations.forms.yolo import yolo_pairs
from ddpm_seg.data.annotations.pair import Pair, refuse_twice
from ddpm_seg.data.decoding.formats import EXTENSIONS
from ddpm_seg.data.inputs.hidden import is_hidden_below
from ddpm_seg.data.inputs.listing import files_named
from ddpm_seg.data.inputs.sources import kind_name
from ddpm_seg.tasks import Task

_PATTERN = re.compile(r"[*?\[{]")
_CONTAINERS = ("tar", "parquet")


def find_pairs(uri: str, task: Task, image_root: str | None = None) -> list[Pair]:
    """All annotated images at `uri`, sorted by URI.

    * a folder or prefix: `X.png` (or .jpg, ...) beside `X.npy`, as published; `X_mask.png` or `X.png` beside `X.jpg`;
      or a folder `images/` with `X.jpg` and a folder `masks/` with `X.png` or `X.npy` (see `pairs_of_files`);
    * a folder in Pascal VOC's layout, or a list of its files, such as `ImageSets/Segmentation/train.txt`;
    * a folder of `images/` and `labels/` with polygons, on which YOLO models are trained;
    * a `.parquet` file: rows with `uri` or `image`, and `mask`, such as our `labels`;
    * a `.json` file: COCO (panoptic, polygons or run lengths), Label Studio's export of brush labels and polygons, or
      LabelMe; or a folder of them without mask files, such as LabelMe's, with one for each image;
    * an `.xml` file: CVAT for images;
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
        found = (_json_reader(content) or coco_pairs)(uri, content, task, image_root)
        return _refuse_none(found, f"{storage.redact(uri)} holds")
    if suffix in ("yaml", "yml"):
        raise AnnotationError(
            f"{storage.redact(uri)} holds no annotations; for a YOLO dataset, give its folder, or that of one split, "
            "such as images/train"
        )
    if folder := folder_of_split(uri):
        return voc_pairs(folder, _files(folder), task, split=uri)
    is_one = storage.is_http(uri) or not _PATTERN.search(uri)
    if is_one and (suffix == "parquet" or (suffix and kind_name(uri) == "tar")):
        return _pairs_of_containers([uri], task, image_root)
    files = _files(uri)
    if is_voc(uri, files):
        return voc_pairs(uri, files, task)
    found = _pairs_of_containers(_containers(files), task, image_root)
    if not found and not _has_masks(uri, files):
        found = _pairs_of_json_files(uri, files, task, image_root) or yolo_pairs(uri, files, task)
    return found or pairs_of_files(uri, files, task)


def _has_masks(uri: str, files: Sequence[str]) -> bool:
    masks = storage.join(uri, "masks") + "/"
    return any(file.lower().endswith(".npy") or file.startswith(masks) for file in files)


def _is_folder(uri: str) -> bool:
    """Whether a name that ends like a file's is a folder's: Spark writes a table as `x.parquet/part-00000.parquet`."""
    like_a_file = uri.lower().endswith((".json", ".xml")) or kind_name(uri) in _CONTAINERS
    if storage.is_http(uri) or _PATTERN.search(uri) or not like_a_file:
        return False
    first = next(files_named(uri), None)
    return first is not None and first.uri.startswith(f"{uri}/")


def _json_reader(content: object) -> Callable[[str, object, Task, str | None], list[Pair]] | None:
    """What reads this JSON's content; None if it does not look like annotations."""
    if is_label_studio(content):
        return label_studio_pairs
    if is_labelme(content):
        return labelme_pairs
    return coco_pairs if isinstance(content, dict) and "annotations" in content else None


def _files(uri: str) -> list[str]:
    """The files in a folder, or of a pattern, that are not hidden."""
    start = _PATTERN.split(uri)[0]
    folder = uri if start == uri else start.rpartition("/")[0]
    return [file.uri for file in files_named(uri) if not is_hidden_below(file.uri, folder)]


def _containers(files: Sequence[str]) -> list[str]:
    """The tars and tables among the files, if there are no images or masks."""
    if any(file.lower().endswith((*EXTENSIONS, ".npy")) for file in files):
        return []
    return [file for file in files if kind_name(file) in _CONTAINERS]


def _pairs_of_containers(containers: Iterable[str], task: Task, image_root: str | None) -> list[Pair]:
    found = []
    for part in containers:
        read_part = pairs_of_table if part.lower().endswith("parquet") else pairs_of_tar
        found += read_part(part, task, image_root)
    return found


def _pairs_of_json_files(uri: str, files: Sequence[str], task: Task, image_root: str | None) -> list[Pair]:
    """The pairs of a folder whose JSON files are annotations: LabelMe writes one for each image, other tools one for
    all."""
    found, named = [], sorted(file for file in files if file.lower().endswith(".json"))
    for file in named:
        content = read_json(file)
        reader = _json_reader(content)
        if reader is None and file == named[0]:
            return []  # they are about something else
        found += (reader or coco_pairs)(file, content, task, image_root)
    return _refuse_none(found, f"the {len(named)} JSON files in {storage.redact(uri)} hold") if named else []


def _refuse_none(found: list[Pair], subject: str) -> list[Pair]:
    if not found:
        raise AnnotationError(f"{subject} no polygons, circles or masks")
    return found
