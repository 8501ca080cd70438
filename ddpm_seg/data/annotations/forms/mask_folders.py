"""Folders of mask files: beside their images, as published, or in a folder of their own."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable
from functools import partial
from typing import Any

from numpy.typing import NDArray

from ddpm_seg import storage
from ddpm_seg.data.annotations.errors import AnnotationError
from ddpm_seg.data.annotations.forms.mask_files import MAX_MASK_BYTES, merged, read_npy, read_png
from ddpm_seg.data.annotations.pair import Pair, image_pair, shown
from ddpm_seg.data.decoding.formats import EXTENSIONS
from ddpm_seg.data.inputs.hidden import is_hidden_below
from ddpm_seg.tasks import Task


def pairs_of_files(uri: str, task: Task) -> list[Pair]:
    """Pairs of images and masks of the same name: `.npy` beside the image, or `.npy` or `.png` in `masks/` next to
    `images/`."""
    place = storage.normalize(uri)
    files = [file.uri for file in storage.list_files(uri) if not is_hidden_below(file.uri, place)]
    image_folder, mask_folder = storage.join(uri, "images"), storage.join(uri, "masks")
    if any(file.startswith(mask_folder + "/") for file in files):
        images, masks = by_stem(files, image_folder, EXTENSIONS), by_stem(files, mask_folder, (".png", ".npy"))
        expected = "X.png in masks/ and X.jpg in images/"
    else:
        images, masks = by_stem(files, uri, EXTENSIONS), by_stem(files, uri, (".npy",))
        expected = "X.npy beside X.png"
    if not images and not masks:
        raise AnnotationError(
            f"{storage.redact(uri)} holds no annotated images; expected X.png beside X.npy, "
            "or the folders images/ and masks/"
        )
    refuse_bare("images", "mask", images, masks, expected)
    refuse_bare("masks", "image", masks, images, expected)
    return [
        image_pair(images[stem], masks[stem], partial(_read_mask_file, masks[stem], task)) for stem in sorted(images)
    ]


def by_stem(files: Iterable[str], folder: str, suffixes: Collection[str]) -> dict[str, str]:
    """URIs of the files below `folder` with one of the `suffixes`, by their path there without the suffix. Paths are
    composed, as a Mac may have written the one of two folders and another system the other."""
    found: dict[str, str] = {}
    for file in files:
        stem, dot, suffix = unicodedata.normalize("NFC", file.removeprefix(folder + "/")).rpartition(".")
        if file.startswith(folder + "/") and dot + suffix.lower() in suffixes:
            if stem in found:
                raise AnnotationError(f"{shown([found[stem], file])} have the same name; remove one of them")
            found[stem] = file
    return found


def refuse_bare(kind: str, partner: str, own: dict[str, str], others: dict[str, str], expected: str) -> None:
    """Raises AnnotationError for files of `own` without a partner of the same name in `others`."""
    if bare := [own[stem] for stem in sorted(own.keys() - others.keys())]:
        raise AnnotationError(
            f"{len(bare)} of {len(own)} {kind} have no {partner}: {shown(bare)}; "
            f"expected {expected}, so add the {partner}s or move these {kind} elsewhere"
        )


def _read_mask_file(uri: str, task: Task, image_height: int, image_width: int) -> NDArray[Any]:
    data = storage.read_bytes(uri, max_bytes=MAX_MASK_BYTES)
    if uri.lower().endswith(".npy"):
        return merged(read_npy(data, image_height, image_width), task)
    return read_png(data, task, image_height, image_width)
