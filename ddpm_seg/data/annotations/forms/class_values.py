"""Reads masks beside a file that names their values, such as Roboflow's export "Semantic Segmentation Masks"."""

# Shapes: masks of H x W pixels.

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError, MaskError
from ddpm_seg.data.annotations.forms.mask_files import read_values
from ddpm_seg.data.annotations.pair import BACKGROUND, UNCOVERED, class_id_of
from ddpm_seg.tasks import Task

CLASSES = "_classes.csv"
HEADING = "pixel value"
"""What its first line begins with; Roboflow's lists of images with their classes have the same name."""
MAX_BYTES = 2**20
_VALUE = re.compile(r"[0-9]{1,5}")


def value_labels(uri: str) -> dict[int, str]:
    """Label by value, from lines `value, label` in the file at `uri`; empty if it is about something else. Raises
    AnnotationError for a line that is none of these."""
    lines = storage.read_bytes(uri, max_bytes=MAX_BYTES).decode("utf-8-sig", errors="replace").splitlines()
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, skipinitialspace=True) if any(row)]
    except csv.Error as error:
        raise AnnotationError(f"{storage.redact(uri)}: {error}; expected value, label in each line") from None
    if not rows or rows[0][0].lower() != HEADING:
        return {}
    labels: dict[int, str] = {}
    for row in rows[1:]:
        if len(row) != 2 or not _VALUE.fullmatch(row[0]):
            raise AnnotationError(f"{storage.redact(uri)}: expected value, label; got {', '.join(row)[:80]!r}")
        if labels.setdefault(int(row[0]), row[1]) != row[1]:
            raise AnnotationError(f"{storage.redact(uri)}: {row[0]} is both {labels[int(row[0])]!r} and {row[1]!r}")
    return labels


def read_labelled_mask(
    data: bytes, labels: Mapping[int, str], task: Task, image_height: int, image_width: int
) -> NDArray[Any]:
    """Class ids (H, W) of a PNG whose values have `labels`, matched to classes of `task` by name; `UNCOVERED` for the
    label `background`, if that is no class. Raises MaskError."""
    values_HW = read_values(data, image_height, image_width)
    found, where = np.unique(values_HW, return_inverse=True)
    if strange := [value for value in found.tolist() if value not in labels]:
        raise MaskError(f"holds the value {strange[0]}, which {CLASSES} beside it does not name")
    ids = {BACKGROUND: UNCOVERED, **task.ids}
    of_value = [class_id_of(labels[value], ids, task) for value in found.tolist()]
    return np.array(of_value)[where].reshape(values_HW.shape)
