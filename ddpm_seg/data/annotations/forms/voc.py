"""Reads folders in the layout of Pascal VOC, which CVAT's export "Segmentation mask 1.1" and other tools write."""

# Shapes: masks of H x W pixels.

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.forms.mask_files import MAX_MASK_BYTES, Color, ids_of_colors, read_colors, read_png
from ddpm_seg.data.annotations.forms.mask_folders import by_stem, refuse_bare
from ddpm_seg.data.annotations.pair import BACKGROUND, UNCOVERED, Pair, class_id_of, image_pair, shown
from ddpm_seg.data.decoding.formats import EXTENSIONS
from ddpm_seg.tasks import UNLABELLED, Task

logger = logging.getLogger(__name__)

IMAGES, MASKS, LABEL_MAP = "JPEGImages", "SegmentationClass", "labelmap.txt"
BORDER = (224, 224, 192)
"""VOC's colour of the pixels between objects, which have no class."""
MAX_TEXT_BYTES = 2**26
_SPLIT = re.compile(r"(.+)/ImageSets/Segmentation/[^/]+\.txt")
_LABEL = re.compile(r"(.+):(?:(\d+),(\d+),(\d+))?:[^:]*:[^:]*")


def is_voc(folder: str, files: Sequence[str]) -> bool:
    """Whether `files`, all those in `folder`, have VOC's layout."""
    return any(file.startswith(storage.join(folder, MASKS) + "/") for file in files)


def folder_of_split(uri: str) -> str | None:
    """The dataset's folder, if `uri` is one of its lists, such as `ImageSets/Segmentation/train.txt`; else None."""
    found = _SPLIT.fullmatch(uri)
    return found[1] if found else None


def voc_pairs(folder: str, files: Sequence[str], task: Task, split: str | None = None) -> list[Pair]:
    """The pairs of `SegmentationClass/X.png` and `JPEGImages/X.jpg` among `files`, all those in `folder`: all, or those
    that the list at `split` names.

    Images without a mask are left out, and counted if there is no list. With `labelmap.txt`, a mask's colours are
    labels, matched to classes of `task` by name; pixels of the label `background`, if that is no class, are covered by
    no object. Without it, masks are read like those in `masks/`.
    """
    images = by_stem(files, storage.join(folder, IMAGES), EXTENSIONS)
    masks = by_stem(files, storage.join(folder, MASKS), (".png",))
    if split is not None:
        masks = _chosen(masks, split)
    elif bare := len(images.keys() - masks.keys()):
        logger.warning("%s: %d images without a mask are left out", storage.redact(folder), bare)
    refuse_bare("masks", "image", masks, images, f"X.png in {MASKS}/ and X.jpg in {IMAGES}/")
    labels = _label_map(storage.join(folder, LABEL_MAP))
    return [
        image_pair(images[stem], masks[stem], partial(_read_mask, masks[stem], labels, task), drawn=bool(labels))
        for stem in sorted(masks)
    ]


def _chosen(masks: Mapping[str, str], split: str) -> dict[str, str]:
    """Those of `masks` that the list at `split` names."""
    text = unicodedata.normalize("NFC", storage.read_bytes(split, max_bytes=MAX_TEXT_BYTES).decode(errors="replace"))
    # Datumaro puts names with spaces in quotes.
    names = dict.fromkeys(line.strip().strip('"') for line in text.splitlines() if line.strip())
    if bare := [name for name in names if name not in masks]:
        raise AnnotationError(
            f"{len(bare)} of the {len(names)} names in {storage.redact(split)} have no mask: {shown(bare)}"
        )
    return {name: masks[name] for name in names}


def _label_map(uri: str) -> dict[Color, str]:
    """Label by colour, from lines `label:red,green,blue:parts:actions`; empty without such a file."""
    try:
        text = storage.read_bytes(uri, max_bytes=MAX_TEXT_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return {}
    labels: dict[Color, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("#"):
            continue
        found = _LABEL.fullmatch(line)
        if found is None or found[2] is None:
            raise AnnotationError(
                f"{storage.redact(uri)}: expected label:red,green,blue::, got {line[:80]!r}; export the masks in "
                "colours, or remove the file if their values are class ids"
            )
        color = (int(found[2]), int(found[3]), int(found[4]))
        if labels.setdefault(color, found[1]) != found[1]:
            raise AnnotationError(f"{storage.redact(uri)}: {found[1]} has the colour of {labels[color]}")
    return {BORDER: "", **labels}


def _read_mask(uri: str, labels: Mapping[Color, str], task: Task, image_height: int, image_width: int) -> NDArray[Any]:
    data = storage.read_bytes(uri, max_bytes=MAX_MASK_BYTES)
    if not labels:
        return read_png(data, task, image_height, image_width)
    rgb_HW3 = read_colors(data, image_height, image_width)
    label_HW = ids_of_colors(rgb_HW3, {color: number for number, color in enumerate(labels)}, LABEL_MAP)
    names = list(labels.values())
    ids = np.zeros(len(names), np.int64)
    for number in np.flatnonzero(np.bincount(label_HW.ravel())):  # those that the mask shows
        ids[number] = _class_id(names[number], task)
    return ids[label_HW]


def _class_id(label: str, task: Task) -> int:
    return class_id_of(label, {"": UNLABELLED, BACKGROUND: UNCOVERED, **task.ids}, task)
